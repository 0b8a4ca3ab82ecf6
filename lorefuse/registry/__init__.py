"""MLflow: runs, model versions, aliases and the gate between them."""
