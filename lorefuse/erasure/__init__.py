"""A person is found, shown and removed: in every file that a home holds, in the registry, and in what is served."""
