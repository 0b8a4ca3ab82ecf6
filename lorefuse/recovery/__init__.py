"""What a home holds that cannot be made again, in one file and back."""
