"""Blocks: the records of one part of a source, made ready for the corpus by whichever process has the time.

What needs to know the other blocks (repeated ids and texts, where a record is stored, the order of the quarantine) is
left to the one process that receives them in order.
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
from cclm_core.ingest.config import IngestConfig, Part, ids_may_repeat, part_records
from cclm_core.ingest.duplicates import Keys
from cclm_core.ingest.filters import why_left_out
from cclm_core.ingest.minhash import signatures
from cclm_core.ingest.splits import Splitter
from cclm_core.ingest.transforms import transformed

_NOTHING: tuple[Any, ...] = ()


class Block(NamedTuple):
    """Records in the order of the source, (N,) each.

    Attributes:
        table: the records, in their splits.
        files, lines: where each stands in the source.
        orders: (N,) int64: the place of each among all that was read, the rejected included.
        rejected: what cannot be used, with its place among all that was read.
        ids: (N, 2) keys of the ids, where ids may repeat.
        texts: (N, 2) keys of the texts, where exact duplicates are removed.
        signatures: (N, 112) of the texts, where near duplicates are removed.
        compared: (N,) bool: whether the text is long enough to be removed as a duplicate.
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
    """Makes a block of a part of the source: transforms, filters, faults, splits, and what duplicates are found by."""

    config: IngestConfig
    splitter: Splitter

    def __call__(self, part: Part) -> Block:
        """The block of a part; the same wherever and whenever it is made."""
        config, split_of = self.config, self.splitter.split
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        ids, texts, authors, groups, variants, labels, entities, splits = columns.values()
        files: list[str] = []
        lines: list[int] = []
        orders: list[int] = []
        rejected: list[tuple[int, Rejected]] = []
        for order, item in enumerate(part_records(part, config.source)):
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
                reason = why_left_out(record, config.filters)
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
            keys(ids) if ids_may_repeat(config.source) else None,
            keys(texts) if find and find.kind == "exact" else None,
            signatures(texts, find.ngram) if find and find.kind == "near" else None,
            np.fromiter((len(text) >= shortest for text in texts), dtype=bool, count=len(texts)),
        )


_UNMOVED = "a transform cannot move an entity span"


def keys(names: Iterable[str]) -> Keys:
    """Keys (N, 2) of 128 bits of some strings."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
