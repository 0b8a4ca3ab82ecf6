"""Lorefuse: language-model knowledge in a recommender, from raw interactions to Triton."""

__version__ = "0.1.0"
