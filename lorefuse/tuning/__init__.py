"""Search space and study."""
