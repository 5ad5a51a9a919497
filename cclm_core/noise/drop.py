"""A letter is left out: `their` → `thir`."""

from typing import ClassVar

import numpy as np

from cclm_core.noise.kind import Kind, Sites, Symbols


class Drop(Kind):
    """Removes a letter."""

    sources: ClassVar[tuple[int, ...]] = ()

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:  # noqa: ARG002
        return ()
