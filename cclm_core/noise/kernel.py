"""Recipes of templates for long texts, in one compiled pass: the same result as that of the arrays in `apply`.

The loop (`noise.loops`) is compiled by numba where that is installed; without it the arrays do the work.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.edits import Edits, Noised
from cclm_core.noise.kind import Indices
from cclm_core.noise.scope import RecipeScope
from cclm_core.noise.template import Template

WORTH_IT = 1 << 13
"""Symbols from which on the kernel is used: below, loading it costs more than it saves."""


class Program(NamedTuple):
    """A recipe's templates as arrays, (K,) each; choices of all tables one after the other."""

    acts_on: npt.NDArray[np.uint8]
    when: npt.NDArray[np.int64]
    consumes: Indices
    num_puts: Indices
    what: npt.NDArray[np.int64]  # (K, 2)
    offset: npt.NDArray[np.int64]  # (K, 2)
    weight: npt.NDArray[np.float64]
    table: Indices  # (K,) index of its table
    starts: npt.NDArray[np.int64]  # (tables, V)
    counts: npt.NDArray[np.int64]  # (tables, V)
    values: Indices


def available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


def run(
    scope: RecipeScope, kinds: Sequence[Template], weights: Sequence[float], positions: Indices, key: int, first: int
) -> Noised:
    """Noises the text of a scope by templates; the kinds in the edits are indices of `kinds`.

    Args:
        scope: the text and what is spared.
        kinds, weights: what to do.
        positions: rising, which symbols were hit.
        key, first: as in `apply`.
    """
    symbols, tables = scope.symbols, scope.tables
    length, growth = len(symbols), len(positions)
    noised = np.empty(length + growth, dtype=symbols.dtype)
    source = np.empty(length + growth, dtype=np.int32)
    edits = np.empty((4, growth), dtype=np.int64)
    from cclm_core.noise.loops import noise

    num_symbols, num_edits = noise(
        np.ascontiguousarray(symbols), tables.flags, tables.space, scope.fixed(), scope.fences(),
        _program(kinds, weights, tables), positions, np.uint64(key), np.uint64(first), noised, source, edits
    )  # fmt: skip
    return Noised(noised[:num_symbols], source[:num_symbols], Edits(*edits[:, :num_edits]))


def _program(kinds: Sequence[Template], weights: Sequence[float], tables: Any) -> Program:
    what, offset = np.zeros((len(kinds), 2), dtype=np.int64), np.zeros((len(kinds), 2), dtype=np.int64)
    num_symbols = len(tables.flags)
    starts = [np.zeros(num_symbols, dtype=np.int64)]
    counts = [np.ones(num_symbols, dtype=np.int64)]
    values: list[Indices] = []
    table_of = np.zeros(len(kinds), dtype=np.int64)
    for index, kind in enumerate(kinds):
        for place, put in enumerate(kind.puts):
            what[index, place], offset[index, place] = put
        table = kind.table(tables)
        if table is not None:
            table_of[index] = len(starts)
            starts.append(table.starts + sum(map(len, values)))
            counts.append(table.counts)
            values.append(table.values)
    return Program(
        acts_on=np.array([kind.acts_on for kind in kinds], dtype=np.uint8),
        when=np.array([kind.when for kind in kinds], dtype=np.int64),
        consumes=np.array([kind.consumes for kind in kinds], dtype=np.int64),
        num_puts=np.array([len(kind.puts) for kind in kinds], dtype=np.int64),
        what=what,
        offset=offset,
        weight=np.array(weights, dtype=np.float64),
        table=table_of,
        starts=np.stack(starts),
        counts=np.stack(counts),
        values=np.concatenate([*values, np.zeros(1, dtype=np.int64)]),
    )
