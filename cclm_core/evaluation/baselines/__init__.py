"""Baselines: what simple methods reach on the same test documents."""
