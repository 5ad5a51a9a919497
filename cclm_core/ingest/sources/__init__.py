"""Sources of a corpus; `ingest.config.Source` lists them all."""
