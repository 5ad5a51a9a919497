"""Blocks: the records of one part of a source, prepared for the corpus in any process.

What depends on other blocks (duplicate ids and texts, the shard of a record, the order of the quarantine) is done by
the one process that receives the blocks in order.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
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
from cclm_core.ingest.splits import Splitter
from cclm_core.ingest.transforms import transformed

_NOTHING: tuple[Any, ...] = ()


class Block(NamedTuple):
    """Records in the order of the source, (N,) each.

    Attributes:
        table: the records, in their splits.
        files, lines: the location of each in the source.
        orders: (N,) int64, the position of each among all that was read, rejected input included.
        rejected: input that cannot be used, with its position among all that was read.
        ids: (N, 2) keys of the ids, if ids may repeat.
        texts: (N, 2) keys of the texts, if exact duplicates are removed.
        signatures: (N, 112) of the texts, if near duplicates are removed.
        compared: (N,) bool, whether the text is long enough to be removed as a duplicate.
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


@dataclass(frozen=True)
class Preparation:
    """Makes a block of a part of the source: transforms, filters, faults, splits, and the keys that find duplicates."""

    config: IngestConfig
    splitter: Splitter

    def __call__(self, part: Any) -> Block:
        """The block of a part of the configured source; a function of the part alone."""
        config, split_of = self.config, self.splitter.split
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        ids, texts, authors, groups, variants, labels, entities, splits = columns.values()
        files: list[str] = []
        lines: list[int] = []
        orders: list[int] = []
        rejected: list[tuple[int, Rejected]] = []
        for order, item in enumerate(config.source.read_part(part)):
            if isinstance(item, Rejected):
                rejected.append((order, item))
                continue
            record, file, line = item
            reason = fault(record)
            if reason is None and config.transforms:
                changed = transformed(record, config.transforms)
                reason = _UNMOVED if changed is None else fault(changed)
                record = changed or record
            if reason is None and config.filters:
                reason = rejection_reason(record, config.filters)
            if reason is not None:
                rejected.append((order, Rejected(file, line, reason, record.text)))
                continue
            ids.append(record.id)
            texts.append(record.text)
            authors.append(record.author)
            groups.append(record.group)
            variants.append(record.variant)
            labels.append(record.label)
            entities.append([entity._asdict() for entity in record.entities] if record.entities else _NOTHING)
            splits.append(split_of(record.group, record.id))
            files.append(file)
            lines.append(line)
            orders.append(order)
        find = config.duplicates
        shortest = find.min_characters if find else 0
        return Block(
            pa.Table.from_pydict(columns, SCHEMA),
            files,
            np.array(lines, dtype=np.int64),
            np.array(orders, dtype=np.int64),
            rejected,
            keys(ids) if config.source.ids_may_repeat else None,
            keys(texts) if find and find.kind == "exact" else None,
            signatures(texts, find.ngram) if find and find.kind == "near" else None,
            np.fromiter((len(text) >= shortest for text in texts), dtype=bool, count=len(texts)),
        )


_UNMOVED = "a transform cannot move an entity span"


def keys(names: Iterable[str]) -> Keys:
    """Keys (N, 2) uint64, 128 bits each, of strings (N,)."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
