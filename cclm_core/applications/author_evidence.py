"""Evidence that an author wrote a text, in bits: how much better a language model of the author predicts it."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cclm_core.applications.language_model import LanguageModel
from cclm_core.composition.long_texts import TextReader
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, DataError

Scores = npt.NDArray[np.float64]

_BATCH_IDS = 8192
_STEPS, _RATE = 60, 0.05
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*\s*|\n+")


class Calibration(NamedTuple):
    """Maps evidence to the probability of authorship: sigmoid(`slope` * bits + `intercept`)."""

    slope: float
    intercept: float

    def probability(self, bits: npt.ArrayLike) -> Scores:
        """The probability for evidence of any shape, in bits."""
        exponent = np.clip(-(self.slope * np.asarray(bits, dtype=np.float64) + self.intercept), -700, 700)
        probability: Scores = 1 / (1 + np.exp(exponent))
        return probability


class AuthorEvidence:
    """The log-likelihood ratio of a text under a model of the author against the model of the population, in bits.

    The model of the population is a causal language model. That of an author has the same features and another output
    layer, fitted on the author's known texts with a penalty on the distance from the first. So it costs seconds per
    author, and the sum over the characters tells which of them speak for the author.

    With texts of the population, its output layer is fitted on them first. Use texts of the same kind as those in
    question: a model that has read novels would find every text about software equally unlike them.

    Source: LambdaG (Nini et al. 2024, arXiv 2403.08462), likelihood ratios of n-gram grammars.

    Args:
        model: the language model of the population.
        penalty: weight of the squared distance per known character; larger values trust fewer texts less.
        population: texts by many authors to fit the model of the population on; none keep the language model as it is.

    Raises:
        ConfigError: `penalty` is not positive.
        DataError: `population` has no characters.
    """

    def __init__(self, model: LanguageModel, penalty: float = 3.0, population: Sequence[str] = ()) -> None:
        if not penalty > 0:
            raise ConfigError(f"penalty must be above 0, got {penalty}.")
        assert isinstance(model.head, nn.Linear)
        self.model, self.penalty, self._population = model, penalty, model.head
        self._heads: dict[str, nn.Linear] = {}
        if population:
            self._population = self._fitted("the population", population)

    @property
    def authors(self) -> tuple[str, ...]:
        """The authors that were added, in order."""
        return tuple(self._heads)

    def add(self, author: str, texts: Sequence[str]) -> None:
        """Fits the model of an author to known texts, or replaces it.

        Raises:
            DataError: the texts have no characters.
        """
        self._heads[author] = self._fitted(f"the author {author!r:.80}", texts)

    def _fitted(self, described: str, texts: Sequence[str]) -> nn.Linear:
        """An output layer near that of the population, fitted to texts."""
        features, targets = self._read(texts)
        if not len(targets):
            raise DataError(f"{described} needs known texts with characters, got {len(texts)} without.")
        population = self._population
        change = torch.zeros(len(population.weight), features.shape[1] + 1, requires_grad=True)
        scores = _scores(population, features)
        inputs = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        optimizer = torch.optim.Adam([change], lr=_RATE)
        for step in range(_STEPS):
            optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
            optimizer.zero_grad()
            loss: Tensor = nn.functional.cross_entropy(scores + inputs @ change.T, targets)
            loss = loss + self.penalty * change.square().sum() / len(targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        head = nn.Linear(features.shape[1], len(change))
        head.weight.data = population.weight.detach().float().cpu() + change.detach()[:, :-1]
        head.bias.data = population.bias.detach().float().cpu() + change.detach()[:, -1]
        return head.requires_grad_(False)

    def bits(self, texts: Sequence[str], authors: Sequence[str] | None = None) -> Scores:
        """The evidence (N, A) that each author wrote each text; above 0 speaks for the author.

        Args:
            texts: N strings.
            authors: A authors; None for all.

        Raises:
            DataError: an author was not added.
        """
        names = self.authors if authors is None else tuple(authors)
        evidence = np.zeros((len(texts), len(names)))
        for row, text in enumerate(texts):
            features, targets = self._read([text])
            population = _losses(self._population, features, targets)
            for column, name in enumerate(names):
                evidence[row, column] = (population - _losses(self._head(name), features, targets)).sum()
        return evidence

    def by_sentence(self, text: str, author: str) -> list[dict[str, Any]]:
        """The evidence of each sentence: `start`, `end`, `text`, `bits`. It adds up to that of the text."""
        features, targets = self._read([text])
        gains = _losses(self._population, features, targets) - _losses(self._head(author), features, targets)
        offsets = self.model.preprocessor.offsets(text)[-len(gains) :] if len(gains) else np.zeros(0, dtype=np.int32)
        per_character = np.zeros(len(text) + 1)
        np.add.at(per_character, np.maximum(offsets, 0), gains)
        ends = np.concatenate([[0.0], np.cumsum(per_character[: len(text)])])
        return [
            {
                "start": match.start(),
                "end": match.end(),
                "text": match[0],
                "bits": ends[match.end()] - ends[match.start()],
            }
            for match in _SENTENCE.finditer(text)
        ]

    def calibrate(self, bits: Sequence[float], is_author: Sequence[bool]) -> Calibration:
        """Fits a calibration to evidence for pairs of texts and authors whose truth is known.

        Args:
            bits: evidence of P pairs.
            is_author: whether the author wrote the text.

        Raises:
            DataError: only one of the two answers occurs.
        """
        from sklearn.linear_model import LogisticRegression

        if len(set(map(bool, is_author))) < 2:
            raise DataError("a calibration needs pairs of both kinds, by the author and by others.")
        scale = float(np.std(bits)) or 1.0
        fitted = LogisticRegression(C=100).fit(np.asarray(bits)[:, None] / scale, np.asarray(is_author, dtype=int))
        return Calibration(float(fitted.coef_[0, 0]) / scale, float(fitted.intercept_[0]))

    def _head(self, author: str) -> nn.Linear:
        if author not in self._heads:
            raise DataError(f"the author {author!r:.80} is not known. Call `add` with known texts first.")
        return self._heads[author]

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (N, W) before each character of the texts, and its ids (N,)."""
        encoded = [np.array(self.model.ids(text)) for text in texts]
        reader = TextReader(self.model.encoder, window=self.model.context, batch_characters=_BATCH_IDS, causal=True)
        width = self._population.in_features
        rows = reader.whole([ids[:-1] for ids in encoded], width)
        targets = np.concatenate([ids[1:] for ids in encoded]) if encoded else np.zeros(0, dtype=np.int64)
        return torch.cat(rows) if rows else torch.zeros(0, width), torch.from_numpy(targets)


def _scores(head: nn.Module, features: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = head(features.to(device_of(head))).float().cpu()
    return scores


def _losses(head: nn.Module, features: Tensor, targets: Tensor) -> Scores:
    """Bits (N,) of the ids (N,)."""
    losses: Scores = nn.functional.cross_entropy(_scores(head, features), targets, reduction="none").double().numpy()
    return losses / math.log(2)
