"""Batches of ids and targets: noise moves words, long texts are cut at words, ids point at the right characters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.batches import LabeledTexts
from cclm_core.finetuning.config import TaskNoise
from cclm_core.finetuning.encoding import Encoding, Noise
from cclm_core.finetuning.words import tags_of
from cclm_core.labeled.examples import LabeledText
from cclm_core.text.tagged_words import words_of
from cclm_core.text.vocabulary import MASK
from tests.finetuning.tasks import preprocessor, texts

LABELS = ("LOC", "PER")


def encoding(max_ids: int = 64, task: str = "tag") -> Encoding:
    return Encoding(preprocessor(), task, LABELS, max_ids)


@given(st.text(alphabet="ab é🙂", max_size=30))
@settings(max_examples=50, deadline=None)
def test_word_positions_point_at_the_characters_of_each_word(text: str) -> None:
    words = words_of(text)
    ids, starts, stops = encoding().word_positions(text, words)
    for (start, end), first, last in zip(words, starts.tolist(), stops.tolist(), strict=True):
        assert preprocessor().decode(ids[first:last]) == text[start:end]


def test_noise_moves_the_tags_with_their_words() -> None:
    text = LabeledText(
        "1", "no Bob Lee now", entities=(Entity(3, 10, "PER"),), words=((0, 2), (3, 6), (7, 10), (11, 14))
    )
    noise = Noise(TaskNoise(share=1, rates=(0.3,)))
    lengths = set()
    for seed in range(20):
        example = encoding().example([text], noise, np.random.default_rng(seed))
        tags = example.targets["tag"].tolist()
        assert tags in ([0, 3, 4, 0], [3, 4, 0], [0, 4, 0], [0, 3, 0], [0, 3, 4]), tags
        stops, starts = example.targets["stop"], example.targets["start"]
        assert (stops > starts).all() and stops.max() <= example.ids.shape[1]
        lengths.add(example.ids.shape[1])
    assert len(lengths) > 1


def test_a_long_text_is_cut_at_another_word_each_time_in_training_and_at_the_start_otherwise() -> None:
    words = tuple((start, start + 3) for start in range(0, 400, 4))
    text = LabeledText("1", "abc " * 100, words=words, entities=(Entity(0, 3, "PER"),))
    none = Noise(TaskNoise(share=0))
    firsts = [encoding(20).example([text], none, np.random.default_rng(seed)) for seed in range(5)]
    assert all(example.ids.shape == (1, 20) for example in firsts)
    assert all(example.targets["start"][0] == 0 for example in firsts)  # a window starts with a word
    held_out = encoding(20).example([text], None, np.random.default_rng(1))
    assert held_out.targets["tag"].tolist() == [3, 0, 0, 0, 0]


def test_word_dropout_masks_a_share_of_the_words_in_training_alone() -> None:
    words = tuple((start, start + 3) for start in range(0, 4000, 4))
    text, none = LabeledText("1", "abc " * 1000, words=words), Noise(TaskNoise(share=0))
    dropping = Encoding(preprocessor(), "tag", LABELS, 4000, word_dropout=0.3)
    example = dropping.example([text], none, np.random.default_rng(1))
    masked = (example.ids[0] == MASK).view(-1, 4)
    assert 0.25 < masked[:, 0].float().mean() < 0.35
    assert (masked[:, :3] == masked[:, :1]).all() and not masked[:, 3].any()  # whole words, no spaces
    assert len(example.targets["tag"]) == 1000
    assert not (dropping.example([text], None, np.random.default_rng(1)).ids == MASK).any()


def test_tags_follow_entities() -> None:
    words = ((0, 3), (4, 6), (7, 9), (10, 12))
    assert tags_of(words, [Entity(0, 6, "PER"), Entity(7, 9, "PER")], LABELS) == [3, 4, 3, 0]
    assert tags_of(words, [Entity(0, 6, "MISC")], LABELS) == [0, 0, 0, 0]


def test_every_text_is_in_one_batch_per_epoch_in_another_order_each_epoch() -> None:
    every = texts("classify", 70, 1)
    batches = LabeledTexts(every)
    epochs = [
        [text.id for number in range(3) for text in batches.batch(epoch * 3 + number, 32, 5).texts] for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(text.id for text in every)
    assert epochs[0] != epochs[1]
    assert [text.id for text in LabeledTexts(every).batch(4, 32, 5).texts] == [
        text.id for text in batches.batch(4, 32, 5).texts
    ]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_noised_texts(share: float) -> None:
    every = [f"{text.text} {text.text}" for text in texts("classify", 400, 1)]
    noised, _ = Noise(TaskNoise(share=share, rates=(0.5,)))(every, np.random.default_rng(1))
    changed = np.mean([one != other for one, other in zip(noised, every, strict=True)])
    assert abs(changed - share) < 0.08
