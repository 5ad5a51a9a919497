"""Finds what crashes leave behind in DVC, MLflow and Prefect, explains it and repairs it."""
