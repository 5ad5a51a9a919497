"""A corpus on disk, as records and as ids, and the windows and batches that training reads."""

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Entity, Record

__all__ = ["EncodedCorpus", "Entity", "Record"]
