"""The local stack: PostgreSQL, Prefect's server, MLflow's server and the workers, run by supervisord (../README.md)."""
