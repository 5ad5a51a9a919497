"""The stage graph, read from DVC: stages and what changed, selections of stages, params.yaml and dvc.lock."""
