"""One KFP component per file; file = function = step. Each opens artifacts and calls one library function."""
