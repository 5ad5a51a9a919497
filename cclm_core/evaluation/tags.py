"""The tag readout: entity spans from the features of a frozen composition."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.evaluation.config import TagsProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import Readout, fit
from cclm_core.evaluation.spans import best_tags, tags_to_spans, word_edges
from cclm_core.random import derive
from cclm_core.text.vocabulary import Preprocessor


class Rows(NamedTuple):
    """Characters whose features are fitted: `chosen` (L,) bool for each text, and how many rows a far one stands for.

    Attributes:
        near: (L,) bool for each text: in or beside an entity.
        chosen: (L,) bool for each text: all that are near, and a sample of the others.
        far_weight: what one of the others stands for.
    """

    near: list[npt.NDArray[np.bool_]]
    chosen: list[npt.NDArray[np.bool_]]
    far_weight: float


def choose_rows(tags: Sequence[npt.NDArray[np.uint8]], config: TagsProbe, generator: np.random.Generator) -> Rows:
    """Samples about `config.rows` characters of texts with `tags` (L,): those near an entity first.

    Most characters are far from any entity and easy; a sample of them, weighted by what it stands for, gives the
    same expected loss at a fraction of the cost.
    """
    near = [_widened(text > 0, config.margin) for text in tags]
    num_near = sum(int(text.sum()) for text in near)
    num_far = sum(len(text) for text in near) - num_near
    near_share = min(1.0, config.rows / max(1, num_near))
    far_share = min(1.0, max(config.rows - num_near, config.rows // 10) / max(1, num_far))
    chosen = [
        np.where(text, generator.random(len(text)) < near_share, generator.random(len(text)) < far_share)
        for text in near
    ]
    return Rows(near, chosen, near_share / far_share)


def fit_tags(
    reader: Reader,
    texts: Sequence[npt.NDArray[np.uint16]],
    tags: Sequence[npt.NDArray[np.uint8]],
    num_labels: int,
    config: TagsProbe,
    seed: int,
) -> Readout:
    """Fits BIO tags on texts of ids (L,) with `tags` (L,)."""
    rows = choose_rows(tags, config, derive(seed, "evaluation", "rows", "tags"))
    counts = np.array([int(chosen.sum()) for chosen in rows.chosen])
    first = np.cumsum(counts) - counts
    features = torch.empty(int(counts.sum()), reader.width)
    targets = torch.zeros(len(features), dtype=torch.int64)
    weights = torch.ones(len(features))
    for text, start, found in reader.pieces(texts):
        part = slice(start, start + len(found))
        chosen = rows.chosen[text][part]
        begin = int(first[text] + rows.chosen[text][:start].sum())
        place = slice(begin, begin + int(chosen.sum()))
        features[place] = found[torch.from_numpy(chosen)]
        targets[place] = torch.from_numpy(tags[text][part][chosen].astype(np.int64))
        weights[place] = torch.from_numpy(np.where(rows.near[text][part][chosen], 1.0, rows.far_weight)).float()
    generator = derive(seed, "evaluation", "readout", "tags")
    return fit(features, targets, weights, 1 + 2 * num_labels, config.readout, generator)


def spans_of_text(
    text: str, scores: npt.NDArray[np.float32], preprocessor: Preprocessor, labels: Sequence[str], words: bool
) -> list[tuple[int, int, str]]:
    """The entity spans of `text`, in characters, from the log-probabilities (L, 1 + 2K) of the tags of its ids."""
    offsets = preprocessor.offsets(text)
    ids = np.flatnonzero(offsets >= 0)
    offsets, scores = offsets[ids], scores[ids]
    same = offsets[1:] == offsets[:-1]  # the further bytes of a character
    allowed = word_edges(text) if words else np.ones(len(text) + 1, dtype=bool)
    edges = np.append(allowed[offsets], True)
    edges[1:-1] &= ~same
    blank = np.fromiter((character.isspace() for character in text), dtype=bool, count=len(text))
    spans = tags_to_spans(best_tags(scores, edges, blank[offsets]))
    return [(int(offsets[start]), int(offsets[end - 1]) + 1, labels[label]) for start, end, label in spans]


def _widened(marked: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    reach = np.convolve(marked, np.ones(2 * margin + 1), mode="full")[margin : margin + len(marked)]
    return reach > 0.5 if len(marked) else marked
