"""The wrong case: `their` → `thEir`."""

import numpy as np

from cclm_core.noise.kind import Kind, Mask, Sites, Symbols
from cclm_core.noise.tables import NONE


class Case(Kind):
    """Turns a small letter into a capital and a capital into a small letter."""

    def applies(self, sites: Sites) -> Mask:
        found: Mask = sites.tables.case[sites.here] != NONE
        return found

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:  # noqa: ARG002
        return (sites.tables.case[sites.here],)
