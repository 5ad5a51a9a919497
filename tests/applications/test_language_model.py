"""Scoring text: each character is scored once, and its bits do not depend on batches."""

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
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, Preprocessor, VocabularyConfig
from tests.encoders.shapes import CAUSAL, embedder

TEXTS = ["", "a", "the cat sat.", "naïve — 😀 café", "ab " * 40, "a long one, he said. " * 5]


def objective_and_model(context: int = 256) -> tuple[NextCharacters, LanguageModel]:
    base = embedder(CAUSAL["causal-hourglass-4"])
    with seeded_initialization(2):
        inputs = ObjectiveContext(width=base.width, preprocessor=base.preprocessor)
        objective = NextCharactersConfig(num_ahead=2).build(inputs)
        nn.init.normal_(objective.head.weight, std=0.5)
    return objective, LanguageModel.of(base, objective, base.preprocessor, context)


def bits_of(model: LanguageModel, ids: list[int], target: int) -> float:
    """The bits of the id `target` after `ids`, from the scores that text generation uses."""
    scores = model.scores(ids)
    return float((np.logaddexp.reduce(scores) - scores[target]) / math.log(2))


def test_bits_agree_with_generation_and_sum_over_the_bytes_of_a_character() -> None:
    _, model = objective_and_model()
    for text, bits in zip(TEXTS, model.bits(TEXTS), strict=True):
        expected, ids = [], [END]
        for character in text:
            total = 0.0
            for id_ in model.preprocessor.encode(character).tolist():
                total += bits_of(model, ids, id_)
                ids.append(id_)
            expected.append(total)
        assert bits.shape == (len(text),)
        np.testing.assert_allclose(bits, expected, atol=1e-4)


@pytest.mark.parametrize("context", [2, 3, 8, 9])
def test_later_windows_predict_from_at_least_half_a_window(context: int) -> None:
    _, model = objective_and_model(context)
    text = TEXTS[-1]
    ids, bits = model.ids(text), model.bits([text])[0]
    for position, value in enumerate(bits, start=1):
        lengths = [position] if position <= context else range(max(1, context // 2), context + 1)
        possible = [bits_of(model, ids[position - length : position], ids[position]) for length in lengths]
        assert any(math.isclose(expected, value, abs_tol=1e-4) for expected in possible)


@pytest.mark.parametrize("batch_characters", [1, 50, 10_000])
def test_bits_do_not_depend_on_the_rest_of_the_batch(batch_characters: int) -> None:
    _, model = objective_and_model(16)
    together = model.bits(TEXTS, batch_characters)
    for text, bits in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(bits, model.bits([text])[0], atol=1e-4)
    total = sum(bits.sum() for bits in together)
    assert model.bits_per_character(TEXTS) == pytest.approx(total / sum(map(len, TEXTS)), rel=1e-6)
    assert model.bits([]) == []


def test_bits_agree_with_the_metric_of_the_objective() -> None:
    objective, model = objective_and_model()
    ids = np.array([model.ids("a café, he said")])
    batch = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([ids.shape[1]]))
    with torch.no_grad():
        example = objective.example(batch, derive(1), training=False)
        sums = objective.loss(model.encoder(example.ids), example)[1]["bits_per_character"]
    assert sums.number == 15
    assert sums.total / sums.number == pytest.approx(model.bits_per_character(["a café, he said"]), rel=1e-5)


class Zeros(nn.Module):
    """An encoder that ignores its input: features (B, L, 1) of zeros."""

    def forward(self, ids: Tensor) -> Tensor:
        """Returns zeros (B, L, 1) for ids (B, L)."""
        return torch.zeros(*ids.shape, 1)


@pytest.mark.parametrize("cls", [False, True])
def test_a_uniform_model_has_equal_bits_per_id_and_none_for_special_ids(cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet="ab")
    head = nn.Linear(1, preprocessor.num_ids)
    nn.init.zeros_(head.bias)
    model, per_id = LanguageModel(Zeros(), head, preprocessor, context=4), math.log2(preprocessor.num_ids)
    np.testing.assert_allclose(model.bits(["abc—"])[0], [per_id, per_id, per_id, 3 * per_id], rtol=1e-6)
    assert model.bits_per_character(["abc—", "", "b"]) == pytest.approx(7 / 5 * per_id)


def test_bits_per_character_of_no_characters_is_refused() -> None:
    with pytest.raises(DataError, match="at least one character, got none"):
        objective_and_model()[1].bits_per_character(["", ""])
