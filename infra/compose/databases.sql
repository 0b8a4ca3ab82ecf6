-- Beside MLflow's own database (POSTGRES_DB): its users, Feast's registry, Optuna's studies.
CREATE DATABASE mlflow_auth;
CREATE DATABASE feast;
CREATE DATABASE optuna;
