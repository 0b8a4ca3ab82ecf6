"""People's data: pseudonyms for their ids, who is to be forgotten, and what is held of whom."""
