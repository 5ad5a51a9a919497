"""The stage graph as DVC sees it: stages, what changed and why, selections of stages, params.yaml, dvc.lock."""
