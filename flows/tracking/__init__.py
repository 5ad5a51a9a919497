"""Tracking of runs: records and reports of the stages in local files, and forwarding them to MLflow."""
