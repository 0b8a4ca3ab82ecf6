"""Knowledge that a language model writes about items and users, asked once and kept by content."""
