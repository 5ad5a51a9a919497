"""Dividing texts: whole ones, all copies together, always the same ones, nothing lost."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset

from cclm_core.pretraining.texts import Division, divide, encode_texts
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.reporting import silent
from cclm_core.text.vocabulary import END, Preprocessor

MANY = [f"text number {number}" for number in range(2000)]


def parts(texts: Any, share: float = 0.1, column: str | None = None, validation: Any = None) -> tuple[list[str], ...]:
    division = divide(texts, column, validation, share)
    return list(division.training()), list(division.held_out())


def test_every_text_stands_in_one_part_in_its_order() -> None:
    training, held_out = parts(MANY)
    assert sorted(training + held_out) == sorted(MANY)
    assert training == [text for text in MANY if text not in set(held_out)]
    assert held_out == [text for text in MANY if text in set(held_out)]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_share_is_about_what_was_asked_for(share: float) -> None:
    number = len(parts(MANY, share)[1])
    assert abs(number - share * len(MANY)) < 4 * (len(MANY) * share * (1 - share)) ** 0.5


def test_which_texts_are_held_out_depends_on_each_text_alone() -> None:
    held_out = set(parts(MANY)[1])
    assert set(parts(MANY[::-1])[1]) == held_out
    assert set(parts(MANY[:1500])[1]) == held_out & set(MANY[:1500])
    assert set(parts(MANY, 0.2)[1]) > held_out


def test_no_copy_of_a_held_out_text_is_trained_on() -> None:
    training, held_out = parts(MANY[:100] * 3)
    assert not set(training) & set(held_out)
    assert all(held_out.count(text) == 3 for text in held_out)


@pytest.mark.parametrize("size", range(2, 9))
@pytest.mark.parametrize("share", [0.01, 0.99])
def test_few_texts_still_have_two_parts(size: int, share: float) -> None:
    training, held_out = parts(MANY[:size], share)
    assert training and held_out and len(training + held_out) == size


def test_empty_texts_are_passed_over() -> None:
    assert parts(["", "a", "", "b", ""]) == parts(["a", "b"])


@pytest.mark.parametrize(
    "dataset",
    [
        Dataset.from_dict({"n": range(50), "text": MANY[:50], "other": ["x"] * 50}),
        IterableDataset.from_generator(lambda: ({"text": text} for text in MANY[:50])),
    ],
    ids=["dataset", "stream"],
)
def test_a_dataset_is_divided_like_a_list(dataset: Any) -> None:
    assert parts(dataset) == parts(dataset, column="text") == parts(MANY[:50])


def test_the_column_can_be_chosen() -> None:
    dataset = Dataset.from_dict({"text": ["x"] * 50, "body": MANY[:50]})
    assert parts(dataset, column="body") == parts(MANY[:50])
    with pytest.raises(DataError, match="column 'boby' not found"):
        parts(dataset, column="boby")


def test_what_is_given_to_measure_on_is_not_trained_on() -> None:
    assert parts(["a", "b", "", "c", "b"], validation=["b", "d", ""]) == (["a", "c"], ["b", "d"])
    both = Dataset.from_dict({"text": ["a", "b"]})
    assert parts(both, column="text", validation=["b"]) == (["a"], ["b"]) == parts(["a"], validation=both.select([1]))


@pytest.mark.parametrize(
    ("texts", "validation", "why"),
    [
        (["the same", "", "the same"], None, "at least two that differ and are not empty, got one"),
        (["", ""], None, "at least two that differ and are not empty, got none"),
        ([], None, "at least two that differ"),
        (["a", "b"], [""], "`validation` must hold a text that is not empty"),
        (["a", "", "a"], ["a", "b"], "all texts are empty or in `validation`"),
        (iter(["a", "b"]), None, "a list_iterator can be read only once"),
        ("one text", None, "got one str"),
        (["a", 3], None, "got int at index 1: 3"),
        (["a", "b\ud800"], None, r"text 1: .* lone surrogate U\+D800 at character 1"),
    ],
)
def test_what_cannot_be_divided_is_refused(texts: Any, validation: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        parts(texts, validation=validation)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="`held_out` must be above 0 and below 1"):
        parts(["a", "b"], share)


def test_both_parts_are_encoded_whole(tmp_path: Path) -> None:
    preprocessor = Preprocessor(alphabet="ab")
    division = Division(lambda: iter(["ab", "né"]), lambda: iter(["b"]))
    corpus = encode_texts(division, preprocessor, tmp_path, silent)
    ids = {name: corpus.split(name).ids.tolist() for name in ("train", "validation")}
    assert ids["train"] == [*preprocessor.encode("ab"), END, *preprocessor.encode("né"), END]
    assert ids["validation"] == [*preprocessor.encode("b"), END]
