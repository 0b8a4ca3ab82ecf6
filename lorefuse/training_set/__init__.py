"""The arrays that models learn from: rows with their spec, and the vectors of items. Mapped, not read, where large."""
