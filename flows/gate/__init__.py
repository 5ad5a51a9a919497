"""Registered models: registration, the gate that decides which version is the champion, rollback, serving, lineage."""
