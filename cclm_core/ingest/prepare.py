"""Prepares one part of a source as a block of records; any process can do it.

Work that depends on other blocks (duplicate ids and texts, the shard of a record, the order of the quarantine) is left
to the process that receives the blocks in order.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cclm_core.corpus.quarantine import Rejected
from cclm_core.corpus.records import SCHEMA, fault
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.duplicates import Keys
from cclm_core.ingest.filters import rejection_reason
from cclm_core.ingest.minhash import signatures
from cclm_core.ingest.mixed import MixedSplitter, Part
from cclm_core.ingest.profile import ONLY, Unit
from cclm_core.ingest.splits import Splitter
from cclm_core.ingest.transforms import transformed

_NO_ENTITIES: tuple[Any, ...] = ()
_SPAN_LOST = "a transform cannot move an entity span"


class Block(NamedTuple):
    """N records in the order of the source.

    Attributes:
        table: the N records, each with its split.
        files, lines: (N,) location of each record in the source.
        orders: (N,) int64, position of each record among all input of the part, rejected input included.
        rejected: unusable input, each with its position among all input of the part.
        ids: (N, 2) uint64 keys of the ids; None if ids cannot repeat.
        texts: (N, 2) uint64 keys of the texts; None unless exact duplicates are removed.
        signatures: (N, 112) uint32 MinHash signatures of the texts; None unless near duplicates are removed.
        compared: (N,) bool, whether the text is long enough to be removed as a duplicate.
        source: the name of the source, see `ingest.profile.ONLY`.
    """

    table: pa.Table
    files: list[str]
    lines: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]
    rejected: list[tuple[int, Rejected]]
    ids: Keys | None
    texts: Keys | None
    signatures: npt.NDArray[np.uint32] | None
    compared: npt.NDArray[np.bool_]
    source: str


@dataclass(frozen=True)
class Preparation:
    """Turns a part of the source into a block: transforms, checks, filters, splits, and keys for finding duplicates.

    Args:
        config: the configuration.
        splitter: assigns records to splits.
        excluded: source or file -> why its records are rejected.
    """

    config: IngestConfig
    splitter: Splitter | MixedSplitter
    excluded: Mapping[Unit, str] = field(default_factory=dict)

    def __call__(self, part: Any) -> Block:
        """Returns the block of a part of the configured source; the result depends on the part alone."""
        config, split_of = self.config, self.splitter.split
        reader = config.reader
        source = config.sources[part.number].name if isinstance(part, Part) and config.sources else ONLY
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        ids, texts, authors, groups, variants, labels, entities, splits = columns.values()
        files: list[str] = []
        lines: list[int] = []
        orders: list[int] = []
        rejected: list[tuple[int, Rejected]] = []
        for order, item in enumerate(reader.read_part(part)):
            if isinstance(item, Rejected):
                rejected.append((order, item))
                continue
            record, file, line = item
            reason = fault(record)
            if reason is None and config.transforms:
                changed = transformed(record, config.transforms)
                reason = _SPAN_LOST if changed is None else fault(changed)
                record = changed or record
            if reason is None and config.filters:
                reason = rejection_reason(record, config.filters)
            if reason is None and self.excluded:
                reason = self.excluded.get(Unit(source), self.excluded.get(Unit(source, file)))
            if reason is not None:
                rejected.append((order, Rejected(file, line, reason, record.text)))
                continue
            ids.append(record.id)
            texts.append(record.text)
            authors.append(record.author)
            groups.append(record.group)
            variants.append(record.variant)
            labels.append(record.label)
            entities.append([entity._asdict() for entity in record.entities] if record.entities else _NO_ENTITIES)
            splits.append(split_of(record.group, record.id))
            files.append(file)
            lines.append(line)
            orders.append(order)
        removal = config.duplicates
        min_characters = removal.min_characters if removal else 0
        return Block(
            pa.Table.from_pydict(columns, SCHEMA),
            files,
            np.array(lines, dtype=np.int64),
            np.array(orders, dtype=np.int64),
            rejected,
            keys(ids) if reader.ids_may_repeat else None,
            keys(texts) if removal and removal.kind == "exact" else None,
            signatures(texts, removal.ngram) if removal and removal.kind == "near" else None,
            np.fromiter((len(text) >= min_characters for text in texts), dtype=bool, count=len(texts)),
            source,
        )


def keys(names: Iterable[str]) -> Keys:
    """Returns a 128-bit hash of each of N strings, as (N, 2) uint64."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
