"""Several sources in one corpus: their names in ids and groups, their own splits, and their weights.

A record of the source `plays` with the id `hamlet:1` and the group `hamlet` gets the id `plays/hamlet:1` and the group
`plays/hamlet`, so that ids and groups of different sources never meet, and every document keeps its source. A record
without a group stays without one.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources.base import SourceConfig
from cclm_core.ingest.sources.catalogue import Source
from cclm_core.ingest.splits import HeldOut, Splitter
from cclm_core.runtime.random import seeds_of

_NUM_SEEDS = float(1 << 63)
_MAX_WEIGHT = 100


class WeightedSource(HeldOut):
    """One of several sources of a corpus. Without groups and shares, none of its records are held out.

    Args:
        name: a short name; it begins the ids and groups of the records of this source.
        source: where the records come from.
        weight: how often a training record is in the corpus. With 0.5 half of them are, selected by a seeded hash of
            the id; with 2 each is in it twice; with 1.5 half of them are. Held-out records are in it once.
        validation_groups, test_groups, validation_share, test_share: as in `IngestConfig`, for this source; groups
            without the name of the source.
    """

    name: str = Field(pattern=r"^[\w-]+$", max_length=60)
    source: Source
    weight: float = Field(default=1.0, gt=0, le=_MAX_WEIGHT)


class Part(NamedTuple):
    """A part of one of the sources: the number of the source, and the part as that source yields it."""

    number: int
    part: Any


class MixedSource(SourceConfig):
    """Several sources, one after the other."""

    sources: tuple[WeightedSource, ...]

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids of any source come from the data."""
        return any(member.source.ids_may_repeat for member in self.sources)

    @property
    def reads_in_workers(self) -> bool:
        """Whether any source is read in workers."""
        return any(member.source.reads_in_workers for member in self.sources)

    def parts(self, downloads: Path) -> Iterator[Part]:
        """Yields the parts of all sources in order.

        Raises:
            DataError: a source cannot be read.
        """
        for number, member in enumerate(self.sources):
            for part in member.source.parts(downloads):
                yield Part(number, part)

    def read_part(self, part: Part) -> Iterable[Located | Rejected]:
        """Yields the records of a part in order, with the name of their source in ids and groups."""
        member = self.sources[part.number]
        for item in member.source.read_part(part.part):
            yield item if isinstance(item, Rejected) else item._replace(record=_named(item, member.name))

    def describe(self) -> dict[str, Any]:
        """Returns name, weight and description of each source."""
        sources = [
            {"name": member.name, "weight": member.weight, "source": member.source.describe()}
            for member in self.sources
        ]
        return {"kind": "mixed", "sources": sources}


class MixedSplitter:
    """Assigns the records of several sources to splits, each source by its own groups or shares.

    Args:
        seed: seed of the run.
        sources: the sources.
    """

    def __init__(self, seed: int, sources: Sequence[WeightedSource]) -> None:
        self._splitters = {member.name: Splitter(seed, *_with_name(member)) for member in sources}

    def split(self, group: str | None, record_id: str) -> str:
        """Returns the split of a record."""
        return self._splitters[source_of(record_id)].split(group, record_id)

    def note(self, groups: Callable[[], Collection[str | None]], ids: Callable[[], Collection[str]]) -> None:
        """Records which groups and ids occur; see `Splitter.note`."""
        for name, splitter in self._splitters.items():
            splitter.note(partial(_of_source, groups, name), partial(_of_source, ids, name))

    def check(self, counts: Mapping[str, int], rejected: Mapping[str, int], num_groups: int) -> None:
        """Checks that no split is empty and that all named groups occurred; see `Splitter.check`.

        Raises:
            DataError: the corpus or a split is empty, or a named group did not occur.
        """
        for splitter in self._splitters.values():
            splitter.check(counts, rejected, num_groups)


class Weights:
    """Repeats and leaves out training records by the weights of their sources.

    Args:
        seed: seed of the run.
        sources: the sources.
    """

    def __init__(self, seed: int, sources: Sequence[WeightedSource]) -> None:
        self._weights = {member.name: member.weight for member in sources}
        self._draw = seeds_of(seed, "weight")
        self._is_active = any(weight != 1 for weight in self._weights.values())

    def apply(self, table: pa.Table) -> pa.Table:
        """The records of `table`, repeated by weight. The second copy of the id `a` has the id `a#2`."""
        if not self._is_active:
            return table
        rows: list[int] = []
        ids: list[str] = []
        pairs = zip(table.column("id").to_pylist(), table.column("split").to_pylist(), strict=True)
        for row, (record_id, split) in enumerate(pairs):
            copies = self._copies(record_id) if split == "train" else 1
            rows += [row] * copies
            ids += [record_id if copy == 1 else f"{record_id}#{copy}" for copy in range(1, copies + 1)]
        column = table.schema.get_field_index("id")
        return table.take(pa.array(rows, pa.int64())).set_column(column, table.schema.field(column), pa.array(ids))

    def _copies(self, record_id: str) -> int:
        weight = self._weights[source_of(record_id)]
        return int(weight) + (self._draw(record_id) / _NUM_SEEDS < weight - int(weight))


def source_of(name: str) -> str:
    """The source of an id or a group of a mixed corpus.

    >>> source_of("plays/hamlet:1")
    'plays'
    """
    return name.partition("/")[0]


def _of_source(names: Callable[[], Collection[str | None]], source: str) -> list[str]:
    """The ids or groups of one source."""
    return [name for name in names() if name is not None and source_of(name) == source]


def _named(item: Located, name: str) -> Any:
    record = item.record
    return replace(record, id=f"{name}/{record.id}", group=None if record.group is None else f"{name}/{record.group}")


def _with_name(member: WeightedSource) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The named groups and the shares of the splits of a source, for its `Splitter`."""
    named = {"validation": member.validation_groups, "test": member.test_groups}
    shares = {"validation": member.validation_share or 0.0, "test": member.test_share or 0.0}
    return {split: [f"{member.name}/{group}" for group in groups] for split, groups in named.items()}, shares
