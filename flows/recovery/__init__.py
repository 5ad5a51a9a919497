"""Cleaning up after runs that were killed: their processes, DVC's reader list, their runs in MLflow and Prefect."""
