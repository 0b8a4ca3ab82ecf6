"""Who may do what with MLflow: accounts and roles on a server for many, one login on a laptop, targets of webhooks."""
