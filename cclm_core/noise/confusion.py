"""What is written is replaced by what it can be taken for: `modern` → `rnodern` (OCR), `house` → `h0use`."""

from typing import ClassVar

from cclm_core.noise.kind import Emission, Indices, Kind, Sites
from cclm_core.noise.patterns import MAX_PATTERN, Match
from cclm_core.noise.tables import DIGIT, LETTER, PUNCTUATION


class Confusion(Kind):
    """Replaces one to four symbols by what the table of that name gives for them; the longest match counts."""

    acts_on: ClassVar[int] = LETTER | DIGIT | PUNCTUATION
    reach: ClassVar[int] = MAX_PATTERN

    def __init__(self, table: str) -> None:
        self.table = table

    def count(self, sites: Sites) -> Indices:
        return self._match(sites).counts

    def emit(self, sites: Sites, which: Indices) -> Emission:
        match = self._match(sites)
        chosen = match.starts + which
        replacements = sites.tables.confusions[self.table].replacements
        return Emission(match.consumes, replacements.lengths.take(chosen), *replacements.columns(chosen))

    def _match(self, sites: Sites) -> Match:
        return sites.tables.confusions[self.table].match(sites.here, sites.symbols_after, sites.reach)
