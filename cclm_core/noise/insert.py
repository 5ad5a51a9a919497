"""A letter too many: `their` → `thepir`."""

from typing import ClassVar

import numpy as np

from cclm_core.noise.kind import INSERTED, Kind, Sites, Symbols, pick


class Insert(Kind):
    """Puts a random letter of the same script and case behind a letter."""

    sources: ClassVar[tuple[int, ...]] = (0, INSERTED)

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:
        letters = sites.tables.letters
        chosen = letters.starts[sites.here] + pick(letters.counts[sites.here], generator)
        return sites.here, letters.values[chosen]
