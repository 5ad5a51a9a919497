"""Probes: what can be predicted from the frozen features of a composition."""
