"""Looks at a user's files: how they are written, what their columns hold, and which params.yaml fits them."""
