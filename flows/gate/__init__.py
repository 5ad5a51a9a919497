"""Registered models: registration, the gate that decides which version is champion, rollback, serving, lineage."""
