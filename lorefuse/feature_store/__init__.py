"""Feast: definitions applied, features stored and joined point in time; all that builds on Feast's internals."""
