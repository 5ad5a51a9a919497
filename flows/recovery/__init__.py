"""Cleanup after killed runs: their processes, DVC's list of readers and writers, their runs in MLflow and Prefect."""
