"""Other machines: DVC's remote, and workers that do not share this clone's disk."""
