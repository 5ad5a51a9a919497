"""Turns a source into the records of a corpus: sources, transforms, filters, splits, duplicates."""

from cclm_core.ingest.config import IngestConfig

__all__ = ["IngestConfig"]
