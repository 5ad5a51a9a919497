"""A key that was held too long: `their` → `theeir`."""

from typing import ClassVar

import numpy as np

from cclm_core.noise.kind import INSERTED, Kind, Sites, Symbols


class Duplicate(Kind):
    """Writes a letter twice."""

    sources: ClassVar[tuple[int, ...]] = (0, INSERTED)

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:  # noqa: ARG002
        return sites.here, sites.here
