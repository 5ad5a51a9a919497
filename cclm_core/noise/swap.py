"""Two neighbouring letters change places: `their` → `thier`."""

from typing import ClassVar

import numpy as np

from cclm_core.noise.kind import Kind, Mask, Sites, Symbols


class Swap(Kind):
    """Swaps a letter with the letter behind it, where the two differ."""

    consumes: ClassVar[int] = 2
    sources: ClassVar[tuple[int, ...]] = (1, 0)

    def applies(self, sites: Sites) -> Mask:
        differ: Mask = sites.here != sites.after
        return sites.pair & differ

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:  # noqa: ARG002
        return sites.after, sites.here
