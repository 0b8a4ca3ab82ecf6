"""Bring a model version to serve: repository, Triton, canary."""
