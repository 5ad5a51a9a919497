"""A key beside the right one: `their` → `tjeir`."""

import numpy as np

from cclm_core.noise.kind import Kind, Mask, Sites, Symbols, pick


class Keyboard(Kind):
    """Replaces a letter by one from a neighbouring key of the keyboard, in its own case."""

    def applies(self, sites: Sites) -> Mask:
        found: Mask = sites.tables.keys.counts[sites.here] > 0
        return found

    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:
        keys = sites.tables.keys
        return (keys.values[keys.starts[sites.here] + pick(keys.counts[sites.here], generator)],)
