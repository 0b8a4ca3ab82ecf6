"""Raw files → validated dataset folder → split in time."""
