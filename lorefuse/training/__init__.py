"""Loop, metrics, arms and their comparison."""
