"""Samples the characters for fitting a tag probe: more from documents with entities, and more near entities.

Entities are rare, so a uniform sample would contain few. Weights correct the bias of the sampling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cclm_core.corpus.encoded_split import EncodedSplit
from cclm_core.evaluation.selection import bounds, document_ids, limit_ids

_SEARCH_FACTOR = 20  # ids to search for documents with entities, per id to read


class Tagged(NamedTuple):
    """Texts with gold tags.

    Attributes:
        texts: ids (L,) of each text.
        tags: BIO tags (L,) of each text.
        weights: for each text, how many characters of the corpus each of its characters represents.
    """

    texts: list[npt.NDArray[np.uint16]]
    tags: list[npt.NDArray[np.uint8]]
    weights: list[float]


def tagged_documents(split: EncodedSplit, documents: pd.DataFrame, weight: float = 1.0) -> Tagged:
    """The ids and tags of `documents`, all with the same weight."""
    tags = [split.tags[start:stop] for start, stop in bounds(documents, None)]
    return Tagged(document_ids(split, documents), tags, [weight] * len(documents))


def select_tagged(split: EncodedSplit, documents: pd.DataFrame, num_ids: int, entity_share: float) -> Tagged:
    """The first of `documents`, with about `num_ids` ids, the share `entity_share` in documents with entities.

    If there are too few documents without entities, more of those with entities are selected.
    """
    pool = limit_ids(documents, _SEARCH_FACTOR * num_ids)
    has = np.array([bool(split.tags[start:stop].any()) for start, stop in bounds(pool, None)], dtype=bool)
    without = limit_ids(pool[~has], num_ids - int(num_ids * entity_share))
    entities = limit_ids(pool[has], num_ids - int(without["length"].sum()))
    groups = []
    for selected, candidates in ((entities, pool[has]), (without, pool[~has])):
        weight = float(candidates["length"].sum() / max(1, selected["length"].sum()))
        groups.append(tagged_documents(split, selected, weight))
    return Tagged(*(first + second for first, second in zip(*groups, strict=True)))


class Rows(NamedTuple):
    """The characters to fit a probe on.

    Attributes:
        near: for each text, (L,) bool: inside an entity or close to one.
        selected: for each text, (L,) bool: a sample of the near characters and a sample of the far ones.
        far_weight: weight of a far character relative to a near one.
    """

    near: list[npt.NDArray[np.bool_]]
    selected: list[npt.NDArray[np.bool_]]
    far_weight: float


def sample_rows(
    tags: Sequence[npt.NDArray[np.uint8]], num_rows: int, margin: int, generator: np.random.Generator
) -> Rows:
    """Samples about `num_rows` characters of texts with `tags` (L,), preferring those within `margin` of an entity.

    Most characters are far from any entity and easy to tag. A weighted sample of them gives the same expected loss at
    a fraction of the cost.
    """
    near = [_dilate(text > 0, margin) for text in tags]
    num_near = sum(int(text.sum()) for text in near)
    num_far = sum(len(text) for text in near) - num_near
    near_share = min(1.0, num_rows / max(1, num_near))
    far_share = min(1.0, max(num_rows - num_near, num_rows // 10) / max(1, num_far))
    selected = [
        np.where(text, generator.random(len(text)) < near_share, generator.random(len(text)) < far_share)
        for text in near
    ]
    return Rows(near, selected, near_share / far_share)


def _dilate(mask: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    """`mask` (L,), extended by `margin` to both sides of each true value."""
    num_near = np.convolve(mask, np.ones(2 * margin + 1), mode="full")[margin : margin + len(mask)]
    return num_near > 0.5 if len(mask) else mask
