"""Sources of a corpus, listed in `ingest.sources.catalogue.Source`."""
