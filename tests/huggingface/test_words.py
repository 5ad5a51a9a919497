"""Labels of words as labels of characters, and back."""

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.huggingface import align_word_labels, chars_to_words, tokenizer_from
from cclm_core.runtime.errors import ConfigError, DataError
from tests.huggingface.small import vocabulary

TOKENIZER = tokenizer_from(vocabulary())
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
LABEL2ID = {label: index for index, label in enumerate(LABELS)}
WORDS, TAGS = ["Al", "Bo", "in", "NY"], ["B-PER", "I-PER", "O", "B-LOC"]


def test_characters_inside_an_entity_continue_it() -> None:
    aligned = align_word_labels(WORDS, TAGS, TOKENIZER)
    assert aligned.text == "Al Bo in NY" and aligned.words == [(0, 2), (3, 5), (6, 8), (9, 11)]
    assert aligned.encoding["labels"] == ["B-PER", *["I-PER"] * 4, *["O"] * 4, "B-LOC", "I-LOC"]
    outside = align_word_labels(WORDS, TAGS, TOKENIZER, space="outside").encoding["labels"]
    assert outside[2] == "O" and outside[3] == "I-PER"


def test_an_entity_next_to_another_one_begins_anew() -> None:
    labels = align_word_labels(["Al", "Bo"], ["B-PER", "B-PER"], TOKENIZER).encoding["labels"]
    assert labels == ["B-PER", "I-PER", "O", "B-PER", "I-PER"]
    stray = align_word_labels(["in", "Bo"], ["O", "I-PER"], TOKENIZER).encoding["labels"]
    assert stray[3:] == ["B-PER", "I-PER"]


def test_labels_follow_the_original_text_bytes_and_special_tokens() -> None:
    text = "Zoë,  NY"
    aligned = align_word_labels(["Zoë", ",", "NY"], ["B-PER", "O", "B-LOC"], TOKENIZER, LABEL2ID, text=text)
    assert aligned.encoding["labels"] == [1, 2, 2, 2, 0, 0, 0, 3, 4], "ë has two bytes"
    framed = align_word_labels(["NY"], ["B-LOC"], tokenizer_from(vocabulary(), "bert"), LABEL2ID)
    assert framed.encoding["labels"] == [-100, 3, 4, -100]


def test_windows_and_tensors() -> None:
    windows = align_word_labels(
        WORDS, TAGS, TOKENIZER, LABEL2ID, truncation=True, max_length=6, stride=2, return_overflowing_tokens=True
    ).encoding
    assert windows["labels"] == [[1, 2, 2, 2, 2, 0], [2, 0, 0, 0, 0, 3], [0, 3, 4]]
    padded = align_word_labels(
        WORDS, TAGS, TOKENIZER, LABEL2ID, padding="max_length", max_length=13, return_tensors="pt"
    ).encoding
    assert padded["labels"].dtype == torch.int64 and padded["labels"][0, -3:].tolist() == [4, -100, -100]


@given(st.lists(st.tuples(st.text("abé🙂", min_size=1, max_size=4), st.sampled_from(["O", "PER", "LOC"])), max_size=6))
def test_labels_return_to_the_words(pairs: list[tuple[str, str]]) -> None:
    words = [word for word, _ in pairs]
    tags = ["O" if label == "O" else f"B-{label}" for _, label in pairs]
    for index in range(1, len(tags)):  # every second equal neighbor continues
        if index % 2 and tags[index] == tags[index - 1].replace("I-", "B-"):
            tags[index] = tags[index].replace("B-", "I-")
    aligned = align_word_labels(words, tags, TOKENIZER)
    starts = aligned.encoding.encodings[0].offsets
    first_bytes = [index for index, (start, _) in enumerate(starts) if not index or start != starts[index - 1][0]]
    characters = [aligned.encoding["labels"][index] for index in first_bytes]
    assert len(characters) == len(aligned.text)
    for how in ("first", "majority"):
        assert chars_to_words(characters, aligned.words, how) == tags
    scores = np.array([[float(label == other) for other in LABELS] for label in characters]).reshape(-1, len(LABELS))
    assert chars_to_words(scores, aligned.words, "mean", dict(enumerate(LABELS))) == tags


def test_disagreeing_characters() -> None:
    labels = ["O", "I-PER", "I-PER", "O", "B-LOC", "O", "O"]
    assert chars_to_words(labels, [(0, 3), (4, 7)]) == ["O", "B-LOC"]
    assert chars_to_words(labels, [(0, 3), (4, 7)], "majority") == ["B-PER", "O"]
    scores = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.1, 0.1, 0.8]])
    assert chars_to_words(scores, [(0, 3)], "mean", {0: "O", 1: "B-PER", 2: "I-PER"}) == ["B-PER"]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="must have the same number, got 4 words and 1 tags"):
        align_word_labels(WORDS, ["O"], TOKENIZER)
    with pytest.raises(DataError, match="a tag must be O, B-LABEL or I-LABEL, got 'S-PER'"):
        align_word_labels(["Al"], ["S-PER"], TOKENIZER)
    with pytest.raises(DataError, match="word 0, 'Bo', is empty or not in the text after character 0"):
        align_word_labels(["Bo"], ["O"], TOKENIZER, text="Al")
    with pytest.raises(ConfigError, match="`label2id` must have every label of characters, but 'I-PER' is missing"):
        align_word_labels(["Al"], ["B-PER"], TOKENIZER, {"O": 0, "B-PER": 1})
    with pytest.raises(ConfigError, match="`space` must be inside or outside"):
        align_word_labels(["Al"], ["O"], TOKENIZER, space="none")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"words must have characters within the 2 predictions, got \(0, 3\)"):
        chars_to_words(["O", "O"], [(0, 3)])
    with pytest.raises(ConfigError, match="`how` must be first, majority or mean"):
        chars_to_words(["O"], [(0, 1)], "last")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs scores"):
        chars_to_words(["O"], [(0, 1)], "mean")
