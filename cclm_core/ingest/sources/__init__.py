"""Sources of a corpus, listed in `ingest.config.Source`."""
