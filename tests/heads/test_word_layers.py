"""Layers over the words of a text."""

import pytest
import torch

from cclm_core.heads.base import HeadContext
from cclm_core.heads.tags import TagsConfig
from cclm_core.heads.word_layers import WordLayers
from cclm_core.runtime.random import seeded_initialization


def layers(number: int) -> WordLayers:
    """Layers over words with 12 features, in float64."""
    with seeded_initialization(1):
        return WordLayers(12, 8, number).double()


def test_each_layer_reads_one_more_word_on_each_side() -> None:
    for number in (1, 2, 3):
        words = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(layers(number)(words, torch.zeros(9, dtype=torch.int64))[4, 0], words)
        read = gradient.abs().sum(1).nonzero()[:, 0].tolist()
        assert read == list(range(4 - number, 4 + number + 1))


def test_words_of_other_texts_are_never_read() -> None:
    row = torch.tensor([0, 0, 0, 2, 2, 3])
    words = torch.randn(6, 12, dtype=torch.float64)
    together = layers(2)(words, row)
    for text in (0, 2, 3):
        alone = layers(2)(words[row == text], torch.zeros(int((row == text).sum()), dtype=torch.int64))
        torch.testing.assert_close(together[row == text], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("unit", "given", "expected"), [("word", None, 2), ("character", None, 0), ("word", 0, 0)])
def test_the_default_number_depends_on_the_unit(unit: str, given: int | None, expected: int) -> None:
    config = TagsConfig.parse({"unit": unit, "word_layers": given}, "head")
    assert config.num_word_layers == expected
    head = config.build(HeadContext(width=4, labels=("PER",)))
    assert (head.word_layers is not None) == bool(expected)


def test_a_text_without_words_has_no_scores() -> None:
    assert layers(2)(torch.zeros(0, 12, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)).shape == (0, 8)
