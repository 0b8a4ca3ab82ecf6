"""Knowledge graph: links that can be trusted, and item vectors from the entities around each item."""
