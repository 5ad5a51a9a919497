"""`cclm serve`: models over HTTP, with batching, limits, metrics, and reloading."""
