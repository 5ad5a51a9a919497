"""From labeled texts to ids and targets: noise, cutting to the maximum length, padding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.config import TaskNoise
from cclm_core.finetuning.words import tags_of, units_of
from cclm_core.labeled.examples import LabeledText
from cclm_core.noise.text import TextNoiser
from cclm_core.objectives.base import Example
from cclm_core.text.vocabulary import MASK, PAD, Preprocessor

Ids = npt.NDArray[np.integer]


class Noise:
    """Noises a share of the texts, each at one of several rates."""

    def __init__(self, config: TaskNoise) -> None:
        self.share = config.share
        self._noisers = [TextNoiser(config.recipe(rate)) for rate in config.rates]

    def __call__(
        self, texts: Sequence[str], generator: np.random.Generator, spans: Sequence[Sequence[Entity]] | None = None
    ) -> tuple[list[str], list[list[Entity]]]:
        """The texts after noise, and their moved spans, without those that lost all characters."""
        noised, moved = list(texts), [list(row) for row in spans] if spans is not None else [[] for _ in texts]
        is_noised = generator.random(len(texts)) < self.share
        rates = generator.integers(len(self._noisers), size=len(texts))
        for number, noiser in enumerate(self._noisers):
            rows = np.flatnonzero(is_noised & (rates == number)).tolist()
            results = noiser.batch([texts[row] for row in rows], generator, [moved[row] for row in rows])
            for row, result in zip(rows, results, strict=True):
                noised[row], moved[row] = result.text, result.entities
        return noised, moved


@dataclass(frozen=True)
class Encoding:
    """Makes batches of ids and targets.

    Args:
        preprocessor: the vocabulary.
        task: `classify`, `multilabel`, `regress` or `tag`.
        labels: the K labels, sorted.
        max_ids: longer texts are cut: at a random window in training, after the first ids otherwise.
        unit: for `tag`, `word` or `character`.
        word_dropout: for `tag`, share of the words whose ids training replaces by MASK.
    """

    preprocessor: Preprocessor
    task: str
    labels: tuple[str, ...]
    max_ids: int
    unit: str = "word"
    word_dropout: float = 0.0
    _numbers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {label: number for number, label in enumerate(self.labels)})

    def example(self, examples: Sequence[LabeledText], noise: Noise | None, generator: np.random.Generator) -> Example:
        """Ids (B, L) and targets of a batch; noised and cut at random places if there is `noise`."""
        if self.task == "tag":
            return self._tags(examples, noise, generator)
        texts = [example.text for example in examples]
        texts += [example.second for example in examples if example.second is not None]
        if noise is not None:
            texts, _ = noise(texts, generator)
        rows = []
        for text in texts:
            ids = self.preprocessor.encode(text)
            excess = len(ids) - self.max_ids
            start = int(generator.integers(excess + 1)) if excess > 0 and noise is not None else 0
            rows.append(ids[start : start + self.max_ids])
        return Example(padded(rows), self.answers(examples))

    def answers(self, examples: Sequence[LabeledText]) -> dict[str, Tensor]:
        """The targets of whole texts or pairs: `label`, `labels` or `value`."""
        if self.task == "classify":
            return {"label": torch.tensor([self._numbers[str(example.label)] for example in examples])}
        if self.task == "regress":
            return {"value": torch.tensor([example.value for example in examples], dtype=torch.float32)}
        labels = torch.zeros(len(examples), len(self.labels))
        for row, example in enumerate(examples):
            for label in example.labels:
                if label in self._numbers:  # a label that training never saw
                    labels[row, self._numbers[label]] = 1
        return {"labels": labels}

    def _tags(self, examples: Sequence[LabeledText], noise: Noise | None, generator: np.random.Generator) -> Example:
        texts = [example.text for example in examples]
        spans, tags = [], []
        for example in examples:
            words = units_of(example, self.unit)
            spans.append([Entity(start, end, str(number)) for number, (start, end) in enumerate(words)])
            tags.append(tags_of(words, example.entities, self.labels))
        if noise is not None:
            texts, spans = noise(texts, generator, spans)
        rows: list[Ids] = []
        columns: dict[str, list[int]] = {"row": [], "start": [], "stop": [], "tag": []}
        for row, (text, moved, known) in enumerate(zip(texts, spans, tags, strict=True)):
            ids, starts, stops = self.word_positions(text, [(word.start, word.end) for word in moved])
            if noise is not None and self.word_dropout:
                ids = self._without_words(ids, starts, stops, generator)
            first = 0
            if noise is not None and len(ids) > self.max_ids:
                fits = np.flatnonzero(starts <= len(ids) - self.max_ids)
                first = int(starts[fits[int(generator.integers(len(fits)))]]) if len(fits) else 0
            rows.append(ids[first : first + self.max_ids])
            for word, start, stop in zip(moved, (starts - first).tolist(), (stops - first).tolist(), strict=True):
                if 0 <= start < stop <= self.max_ids:
                    columns["row"].append(row)
                    columns["start"].append(start)
                    columns["stop"].append(stop)
                    columns["tag"].append(known[int(word.label)])
        return Example(padded(rows), {name: torch.tensor(values) for name, values in columns.items()})

    def _without_words(
        self, ids: Ids, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64], generator: np.random.Generator
    ) -> Ids:
        """The ids with a random share of the words masked."""
        masked = ids.copy()
        for word in np.flatnonzero(generator.random(len(starts)) < self.word_dropout):
            masked[starts[word] : stops[word]] = MASK
        return masked

    def word_positions(
        self, text: str, words: Sequence[tuple[int, int]]
    ) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The ids (L,) of a text, and the first and the last id (excluded) of each of N words, each (N,)."""
        ids, offsets = self.preprocessor.encode(text), self.preprocessor.offsets(text)
        edges = np.array(words, dtype=np.int64).reshape(-1, 2)
        return ids, np.searchsorted(offsets, edges[:, 0]), np.searchsorted(offsets, edges[:, 1])


def padded(rows: Sequence[Ids]) -> Tensor:
    """Rows of ids as one tensor (B, L) int64, padded with 0."""
    length = max(map(len, rows), default=0)
    ids = np.full((len(rows), length), PAD, dtype=np.int64)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(ids)
