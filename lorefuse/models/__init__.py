"""Rankers: fusion of knowledge into ids, and the model families built on it."""
