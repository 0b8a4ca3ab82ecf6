"""Peers of the training: a lock file and a runner each, and what starts them."""
