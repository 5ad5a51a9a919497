"""What is known of runs: local records and reports of the stages, and MLflow, to which they are forwarded."""
