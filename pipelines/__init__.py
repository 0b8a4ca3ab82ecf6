"""Pipelines, how they are compiled, and how they run here or on a cluster."""
