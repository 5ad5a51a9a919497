"""A language model as a measure: the bits of every character, each scored once, the same however they are read."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.applications.language_model import LanguageModel
from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.next_characters import NextCharacters, NextCharactersConfig
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive, seeded_initialisation
from cclm_core.text.vocabulary import END, Preprocessor, VocabularyConfig
from tests.encoders.shapes import CAUSAL, embedder

TEXTS = ["", "a", "the cat sat.", "naïve — 😀 café", "ab " * 40, "a long one, he said. " * 5]


def objective_and_model(context: int = 256) -> tuple[NextCharacters, LanguageModel]:
    base = embedder(CAUSAL["causal-hourglass-4"])
    with seeded_initialisation(2):
        inputs = ObjectiveContext(width=base.width, preprocessor=base.preprocessor)
        objective = NextCharactersConfig(num_ahead=2).build(inputs)
        nn.init.normal_(objective.head.weight, std=0.5)
    return objective, LanguageModel.of(base, objective, base.preprocessor, context)


def told(model: LanguageModel, ids: list[int], wanted: int) -> float:
    """The bits of one id behind `ids`, by the scores that draw it when text is written."""
    scores = model.scores(ids)
    return float((np.logaddexp.reduce(scores) - scores[wanted]) / math.log(2))


def test_the_bits_are_those_of_what_would_be_written_and_bytes_count_for_their_character() -> None:
    _, model = objective_and_model()
    for text, bits in zip(TEXTS, model.bits(TEXTS), strict=True):
        expected, ids = [], [END]
        for character in text:
            whole = 0.0
            for id_ in model.preprocessor.encode(character).tolist():
                whole += told(model, ids, id_)
                ids.append(id_)
            expected.append(whole)
        assert bits.shape == (len(text),)
        np.testing.assert_allclose(bits, expected, atol=1e-4)


@pytest.mark.parametrize("context", [2, 3, 8, 9])
def test_behind_the_first_window_every_character_is_told_from_half_a_window_or_more(context: int) -> None:
    _, model = objective_and_model(context)
    text = TEXTS[-1]
    ids, bits = model.ids(text), model.bits([text])[0]
    for place, value in enumerate(bits, start=1):
        lengths = [place] if place <= context else range(max(1, context // 2), context + 1)
        assert any(math.isclose(told(model, ids[place - n : place], ids[place]), value, abs_tol=1e-4) for n in lengths)


@pytest.mark.parametrize("batch_characters", [1, 50, 10_000])
def test_texts_are_scored_as_if_alone(batch_characters: int) -> None:
    _, model = objective_and_model(16)
    together = model.bits(TEXTS, batch_characters)
    for text, bits in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(bits, model.bits([text])[0], atol=1e-4)
    total = sum(bits.sum() for bits in together)
    assert model.bits_per_character(TEXTS) == pytest.approx(total / sum(map(len, TEXTS)), rel=1e-6)
    assert model.bits([]) == []


def test_the_objective_counts_the_same_bits() -> None:
    objective, model = objective_and_model()
    ids = np.array([model.ids("a café, he said")])
    batch = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([ids.shape[1]]))
    with torch.no_grad():
        example = objective.example(batch, derive(1), training=False)
        sums = objective.loss(model.encoder(example.ids), example)[1]["bits_per_character"]
    assert sums.number == 15
    assert sums.total / sums.number == pytest.approx(model.bits_per_character(["a café, he said"]), rel=1e-5)


class Nothing(nn.Module):
    """Sees nothing: features (B, L, 1) of zeros."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, 1)


@pytest.mark.parametrize("cls", [False, True])
def test_who_knows_nothing_pays_for_every_id_and_for_no_mark(cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet="ab")
    head = nn.Linear(1, preprocessor.num_ids)
    nn.init.zeros_(head.bias)
    model, one = LanguageModel(Nothing(), head, preprocessor, context=4), math.log2(preprocessor.num_ids)
    np.testing.assert_allclose(model.bits(["abc—"])[0], [one, one, one, 3 * one], rtol=1e-6)
    assert model.bits_per_character(["abc—", "", "b"]) == pytest.approx(7 / 5 * one)


def test_no_character_has_no_mean() -> None:
    with pytest.raises(DataError, match="at least one character, got none"):
        objective_and_model()[1].bits_per_character(["", ""])
