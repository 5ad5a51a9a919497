"""The contract of a kind of noise: where it may act, and what it puts there.

An edit replaces the `consumes` input symbols from a position on by `len(sources)` output symbols.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cclm_core.noise.tables import SymbolTables

INSERTED = -1

Symbols = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sites:
    """Letters at which an edit may start; E of them.

    Attributes:
        tables: what each symbol may become.
        here: (E,) the symbols at the sites.
        after: (E,) the symbols behind them; meaningless where `pair` is false.
        pair: (E,) whether the symbol behind may be edited together with the one at the site.
    """

    tables: SymbolTables
    here: Symbols
    after: Symbols
    pair: Mask

    def __getitem__(self, chosen: Mask) -> "Sites":
        return Sites(self.tables, self.here[chosen], self.after[chosen], self.pair[chosen])


class Kind(ABC):
    """One kind of typing error.

    Attributes:
        consumes: how many input symbols an edit replaces, 1 or 2.
        sources: for each symbol that it puts there, the offset of the input symbol for which that stands,
            or INSERTED where it stands for none.
    """

    consumes: ClassVar[int] = 1
    sources: ClassVar[tuple[int, ...]] = (0,)

    def applies(self, sites: Sites) -> Mask:
        """(E,) at which of the sites this kind can act; everywhere, unless a kind says otherwise."""
        return np.ones(len(sites.here), dtype=bool)

    @abstractmethod
    def emit(self, sites: Sites, generator: np.random.Generator) -> tuple[Symbols, ...]:
        """The symbols that the edits put in place: an (E,) array for each of `sources`.

        Args:
            sites: the sites chosen for this kind; it applies at all of them.
            generator: where randomness comes from.
        """


def pick(counts: npt.NDArray[np.int64], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """For each count an index below it, uniformly."""
    return (generator.random(len(counts)) * counts).astype(np.int64)
