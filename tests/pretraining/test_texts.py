"""Dividing texts into training and held-out texts: complete, by whole text, and always in the same way."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset

from cclm_core.pretraining.texts import Division, divide, encode_texts
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import END, Preprocessor

MANY = [f"text number {number}" for number in range(2000)]


def split(texts: Any, share: float = 0.1, column: str | None = None, validation: Any = None) -> tuple[list[str], ...]:
    """The training and the held-out texts."""
    division = divide(texts, column, validation, share)
    return list(division.training()), list(division.held_out())


def test_every_text_is_on_exactly_one_side_in_order() -> None:
    training, held_out = split(MANY)
    assert sorted(training + held_out) == sorted(MANY)
    assert training == [text for text in MANY if text not in set(held_out)]
    assert held_out == [text for text in MANY if text in set(held_out)]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_held_out_share_is_about_the_requested_one(share: float) -> None:
    num_held_out = len(split(MANY, share)[1])
    assert abs(num_held_out - share * len(MANY)) < 4 * (len(MANY) * share * (1 - share)) ** 0.5


def test_whether_a_text_is_held_out_does_not_depend_on_other_texts() -> None:
    held_out = set(split(MANY)[1])
    assert set(split(MANY[::-1])[1]) == held_out
    assert set(split(MANY[:1500])[1]) == held_out & set(MANY[:1500])
    assert set(split(MANY, 0.2)[1]) > held_out


def test_copies_of_a_held_out_text_are_held_out_too() -> None:
    training, held_out = split(MANY[:100] * 3)
    assert not set(training) & set(held_out)
    assert all(held_out.count(text) == 3 for text in held_out)


@pytest.mark.parametrize("size", range(2, 9))
@pytest.mark.parametrize("share", [0.01, 0.99])
def test_few_texts_are_divided_into_two_nonempty_lists(size: int, share: float) -> None:
    training, held_out = split(MANY[:size], share)
    assert training and held_out and len(training + held_out) == size


def test_empty_texts_are_skipped() -> None:
    assert split(["", "a", "", "b", ""]) == split(["a", "b"])


@pytest.mark.parametrize(
    "dataset",
    [
        Dataset.from_dict({"n": range(50), "text": MANY[:50], "other": ["x"] * 50}),
        IterableDataset.from_generator(lambda: ({"text": text} for text in MANY[:50])),
    ],
    ids=["dataset", "stream"],
)
def test_a_dataset_is_divided_like_a_list(dataset: Any) -> None:
    assert split(dataset) == split(dataset, column="text") == split(MANY[:50])


def test_the_column_can_be_selected() -> None:
    dataset = Dataset.from_dict({"text": ["x"] * 50, "body": MANY[:50]})
    assert split(dataset, column="body") == split(MANY[:50])
    with pytest.raises(DataError, match="column 'boby' not found"):
        split(dataset, column="boby")


def test_validation_texts_are_not_trained_on() -> None:
    assert split(["a", "b", "", "c", "b"], validation=["b", "d", ""]) == (["a", "c"], ["b", "d"])
    both = Dataset.from_dict({"text": ["a", "b"]})
    assert split(both, column="text", validation=["b"]) == (["a"], ["b"]) == split(["a"], validation=both.select([1]))


@pytest.mark.parametrize(
    ("texts", "validation", "message"),
    [
        (["the same", "", "the same"], None, "at least two distinct nonempty texts are needed, got one"),
        (["", ""], None, "at least two distinct nonempty texts are needed, got none"),
        ([], None, "at least two distinct"),
        (["a", "b"], [""], "`validation` must contain a nonempty text, got none"),
        (["a", "", "a"], ["a", "b"], "all texts are empty or in `validation`"),
        (iter(["a", "b"]), None, "a list_iterator can be read only once"),
        ("one text", None, "got one str"),
        (["a", 3], None, "got int at index 1: 3"),
        (["a", "b\ud800"], None, r"text 1: .* lone surrogate U\+D800 at character 1"),
    ],
)
def test_invalid_texts_are_rejected(texts: Any, validation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(texts, validation=validation)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_an_invalid_share_is_rejected(share: float) -> None:
    with pytest.raises(ConfigError, match="`held_out` must be above 0 and below 1"):
        split(["a", "b"], share)


def test_training_and_held_out_texts_are_encoded(tmp_path: Path) -> None:
    preprocessor = Preprocessor(alphabet="ab")
    division = Division(lambda: iter(["ab", "né"]), lambda: iter(["b"]))
    corpus = encode_texts(division, preprocessor, tmp_path, null_report)
    ids = {name: corpus.split(name).ids.tolist() for name in ("train", "validation")}
    assert ids["train"] == [*preprocessor.encode("ab"), END, *preprocessor.encode("né"), END]
    assert ids["validation"] == [*preprocessor.encode("b"), END]
