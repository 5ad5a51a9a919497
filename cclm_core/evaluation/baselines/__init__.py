"""Baselines: simple methods, measured on the same test documents."""
