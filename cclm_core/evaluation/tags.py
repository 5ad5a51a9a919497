"""The tag readout: entity spans from the features of a frozen composition."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.evaluation.config import TagsProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import Readout, fit
from cclm_core.evaluation.spans import SpanScore, Tagging, best_tags, tags_to_spans, word_edges
from cclm_core.evaluation.views import View, whole
from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import Preprocessor

TextSpans = list[tuple[int, int, str]]
Scores = npt.NDArray[np.float32]


class TagReadout(NamedTuple):
    """BIO tags of characters: a readout, and the `bonus`, in nats, of every tag but O.

    Entities are rare, so that the likeliest tags leave most of them out; the bonus balances precision and recall.
    """

    readout: Readout
    bonus: float = 0.0

    def scores(self, features: Tensor) -> Scores:
        """Scores (L, 1 + 2K) of the tags of `features` (L, W)."""
        scores: Scores = self.readout.log_probabilities(features).numpy()
        return scores + np.where(np.arange(scores.shape[1]) > 0, self.bonus, 0).astype(np.float32)


class Tagged(NamedTuple):
    """Texts with known tags.

    Attributes:
        texts: ids (L,) of each.
        tags: (L,) BIO tags of each.
        weights: how many characters of the corpus one of each stands for.
    """

    texts: list[npt.NDArray[np.uint16]]
    tags: list[npt.NDArray[np.uint8]]
    weights: list[float]


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


class TagRows(NamedTuple):
    """What tags are fitted on: `features` (N, W), `targets` (N,) int64, `weights` (N,) rows that each stands for."""

    features: Tensor
    targets: Tensor
    weights: Tensor


def tag_rows(reader: Reader, tagged: Tagged, config: TagsProbe, seed: int) -> TagRows:
    """Reads texts whose tags are known, and keeps the characters that `choose_rows` chooses."""
    rows = choose_rows(tagged.tags, config, derive(seed, "evaluation", "rows", "tags"))
    counts = np.array([int(chosen.sum()) for chosen in rows.chosen])
    first = np.cumsum(counts) - counts
    features = torch.empty(int(counts.sum()), reader.width)
    targets = torch.zeros(len(features), dtype=torch.int64)
    weights = torch.ones(len(features))
    for text, start, found in reader.pieces(tagged.texts):
        part = slice(start, start + len(found))
        chosen = rows.chosen[text][part]
        begin = int(first[text] + rows.chosen[text][:start].sum())
        place = slice(begin, begin + int(chosen.sum()))
        features[place] = found[torch.from_numpy(chosen)]
        targets[place] = torch.from_numpy(tagged.tags[text][part][chosen].astype(np.int64))
        stands_for = np.where(rows.near[text][part][chosen], 1.0, rows.far_weight) * tagged.weights[text]
        weights[place] = torch.from_numpy(stands_for).float()
    return TagRows(features, targets, weights)


def fit_tags(rows: TagRows, num_labels: int, config: TagsProbe, seed: int, view: View | None = None) -> Readout:
    """Fits BIO tags of `num_labels` labels; features outside of the view, if one is given, count for nothing."""
    width = rows.features.shape[1]
    view = view or whole(width)
    generator = derive(seed, "evaluation", "readout", "tags")
    features = view.of(rows.features)
    readout = fit(features, rows.targets, rows.weights, 1 + 2 * num_labels, config.readout, generator)
    return readout.spread(view.columns, width) if view.left_out else readout


def choose_bonuses(
    reader: Reader,
    readouts: Sequence[Readout],
    held_out: Tagged,
    preprocessor: Preprocessor,
    labels: Sequence[str],
    config: TagsProbe,
) -> list[TagReadout]:
    """Gives each readout the bonus of `config.bonuses` that scores the highest F1 on held-out texts; 0 without any."""
    plain = [TagReadout(readout) for readout in readouts]
    if not any(text.any() for text in held_out.tags):
        return plain
    scored = score_texts(reader, plain, held_out.texts)
    chosen = [_best_bonus(scores, held_out, preprocessor, labels, config) for scores in scored]
    return [one._replace(bonus=bonus) for one, bonus in zip(plain, chosen, strict=True)]


def _best_bonus(
    scores: Sequence[Scores], held_out: Tagged, preprocessor: Preprocessor, labels: Sequence[str], config: TagsProbe
) -> float:
    texts = [preprocessor.decode(ids) for ids in held_out.texts]
    gold = [gold_spans(*pair, preprocessor, labels) for pair in zip(held_out.texts, held_out.tags, strict=True)]

    def f1(bonus: float) -> float:
        raised = [row + np.where(np.arange(row.shape[1]) > 0, bonus, 0).astype(np.float32) for row in scores]
        found = spans_of_texts(texts, raised, preprocessor, labels, config.word_boundaries)
        total = SpanScore()
        for wanted, spans in zip(gold, found, strict=True):
            total.add(wanted, spans)
        return total.figures()["f1"]

    return max(sorted(config.bonuses), key=f1)


def no_scores(readouts: Sequence[TagReadout], texts: Sequence[npt.NDArray[np.integer]]) -> list[list[Scores]]:
    """For each readout room for the scores (L, 1 + 2K) of the tags of each text of ids (L,)."""
    return [[np.zeros((len(ids), len(one.readout.bias)), dtype=np.float32) for ids in texts] for one in readouts]


def score_texts(
    reader: Reader, readouts: Sequence[TagReadout], texts: Sequence[npt.NDArray[np.integer]]
) -> list[list[Scores]]:
    """For each readout the scores (L, 1 + 2K) of the tags of each text of ids (L,), all of one reading."""
    scores = no_scores(readouts, texts)
    for text, start, features in reader.pieces(texts):
        for readout, mine in zip(readouts, scores, strict=True):
            mine[text][start : start + len(features)] = readout.scores(features)
    return scores


def spans_of_texts(
    texts: Sequence[str], scores: Sequence[Scores], preprocessor: Preprocessor, labels: Sequence[str], words: bool
) -> list[TextSpans]:
    """The entity spans of each text, in characters, from the scores (L, 1 + 2K) of the tags of its ids.

    Args:
        words: whether spans neither start nor end inside a word.
    """
    offsets = [preprocessor.offsets(text) for text in texts]
    taggings = [_tagging(*what, words) for what in zip(texts, offsets, scores, strict=True)]
    return [
        [
            (int(places[start]), int(places[end - 1]) + 1, labels[label])
            for places in [found[found >= 0]]
            for start, end, label in tags_to_spans(tags)
        ]
        for found, tags in zip(offsets, best_tags(taggings), strict=True)
    ]


def gold_spans(
    ids: npt.NDArray[np.uint16], tags: npt.NDArray[np.uint8], preprocessor: Preprocessor, labels: Sequence[str]
) -> TextSpans:
    """The spans of tags (L,), in characters of the text that `ids` (L,) stand for."""
    return [
        (len(preprocessor.decode(ids[:start])), len(preprocessor.decode(ids[:end])), labels[label])
        for start, end, label in tags_to_spans(tags)
    ]


def _tagging(text: str, offsets: npt.NDArray[np.int32], scores: Scores, words: bool) -> Tagging:
    of_text = np.flatnonzero(offsets >= 0)  # without the CLS id
    places = offsets[of_text]
    allowed = word_edges(text) if words else np.ones(len(text) + 1, dtype=bool)
    edges = np.append(allowed[places], True)
    edges[1:-1] &= places[1:] != places[:-1]  # not between the bytes of one character
    blank = np.fromiter((character.isspace() for character in text), dtype=bool, count=len(text))
    return Tagging(scores[of_text], edges, blank[places])


def _widened(marked: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    reach = np.convolve(marked, np.ones(2 * margin + 1), mode="full")[margin : margin + len(marked)]
    return reach > 0.5 if len(marked) else marked
