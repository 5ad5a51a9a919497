"""Which characters a tag probe is fitted on: documents with entities, and in them the characters near an entity.

Entities are rare. Reading goes where they are, and weights correct what that distorts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cclm_core.corpus.encoded import EncodedSplit
from cclm_core.evaluation.selection import bounds, document_ids, up_to

_SEARCHED = 20  # times the number of ids to read: how many are searched for entities


class Tagged(NamedTuple):
    """Texts with known tags.

    Attributes:
        texts: ids (L,) of each.
        tags: (L,) BIO tags of each.
        weights: number of characters of the corpus that one character of each text represents.
    """

    texts: list[npt.NDArray[np.uint16]]
    tags: list[npt.NDArray[np.uint8]]
    weights: list[float]


def tagged_documents(split: EncodedSplit, documents: pd.DataFrame, weight: float = 1.0) -> Tagged:
    """The ids and tags of each document, each of their characters representing `weight` characters."""
    tags = [split.tags[start:stop] for start, stop in bounds(documents, None)]
    return Tagged(document_ids(split, documents), tags, [weight] * len(documents))


def choose_tagged(split: EncodedSplit, documents: pd.DataFrame, num_ids: int, entity_share: float) -> Tagged:
    """The first of `documents`, about `num_ids` ids in all, `entity_share` of them from documents with entities."""
    pool = up_to(documents, _SEARCHED * num_ids)
    has = np.array([bool(split.tags[start:stop].any()) for start, stop in bounds(pool, None)], dtype=bool)
    without = up_to(pool[~has], num_ids - int(num_ids * entity_share))
    entities = up_to(pool[has], num_ids - int(without["length"].sum()))
    parts = []
    for chosen, whole in ((entities, pool[has]), (without, pool[~has])):
        weight = float(whole["length"].sum() / max(1, chosen["length"].sum()))
        parts.append(tagged_documents(split, chosen, weight))
    return Tagged(*(first + second for first, second in zip(*parts, strict=True)))


class Rows(NamedTuple):
    """The characters of texts that a probe is fitted on.

    Attributes:
        near: (L,) bool for each text: in an entity or near one.
        chosen: (L,) bool for each text: all that are near, and a sample of the others.
        far_weight: number of characters that one of the others represents.
    """

    near: list[npt.NDArray[np.bool_]]
    chosen: list[npt.NDArray[np.bool_]]
    far_weight: float


def choose_rows(
    tags: Sequence[npt.NDArray[np.uint8]], num_rows: int, margin: int, generator: np.random.Generator
) -> Rows:
    """Samples about `num_rows` characters of texts with `tags` (L,): those within `margin` of an entity first.

    Most characters are far from any entity and easy; a weighted sample of them gives the same expected loss at a
    fraction of the cost.
    """
    near = [_widened(text > 0, margin) for text in tags]
    num_near = sum(int(text.sum()) for text in near)
    num_far = sum(len(text) for text in near) - num_near
    near_share = min(1.0, num_rows / max(1, num_near))
    far_share = min(1.0, max(num_rows - num_near, num_rows // 10) / max(1, num_far))
    chosen = [
        np.where(text, generator.random(len(text)) < near_share, generator.random(len(text)) < far_share)
        for text in near
    ]
    return Rows(near, chosen, near_share / far_share)


def _widened(marked: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    reach = np.convolve(marked, np.ones(2 * margin + 1), mode="full")[margin : margin + len(marked)]
    return reach > 0.5 if len(marked) else marked
