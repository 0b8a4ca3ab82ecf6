"""Recommenders that rank a whole catalogue for a user: baselines that often win, two towers, a graph, and hybrids."""
