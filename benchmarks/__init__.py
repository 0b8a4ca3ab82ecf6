"""What this project measures beside others: scripts, each run by itself."""
