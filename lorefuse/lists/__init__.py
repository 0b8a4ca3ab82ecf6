"""What is served: candidates for a user, the order that a ranker gives them, and how good the list is."""
