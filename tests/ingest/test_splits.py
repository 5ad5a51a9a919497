"""Whole groups go to the splits in the configured shares, in any order; misspelled groups are reported."""

import pytest

from cclm_core.ingest.splits import Splitter
from cclm_core.runtime.errors import DataError

_NO_GROUPS: dict[str, tuple[str, ...]] = {"validation": (), "test": ()}


def test_named_groups_are_held_out_and_the_rest_is_for_training() -> None:
    splitter = Splitter(1, {"validation": ["a"], "test": ["b", "c"]}, {})
    assert [splitter.split(group, "id") for group in "abcde"] == ["validation", "test", "test", "train", "train"]


def test_shares_are_met_and_assignment_depends_on_seed_and_group_alone() -> None:
    shares = {"validation": 0.1, "test": 0.2}
    groups = [f"group {index}" for index in range(5000)]
    forward = {group: Splitter(1, _NO_GROUPS, shares).split(group, "x") for group in groups}
    splitter = Splitter(1, _NO_GROUPS, shares)
    backward = {group: splitter.split(group, f"id {group}") for group in reversed(groups)}
    assert forward == backward
    shares_measured = [list(forward.values()).count(split) / len(groups) for split in ("train", "validation", "test")]
    assert shares_measured == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
    other_seed = {group: Splitter(2, _NO_GROUPS, shares).split(group, "x") for group in groups}
    assert sum(forward[group] != other_seed[group] for group in groups) > 1000


def test_a_record_without_a_group_counts_as_a_group() -> None:
    splitter = Splitter(1, _NO_GROUPS, {"validation": 0.3, "test": 0.3})
    assert {splitter.split(None, f"id {index}") for index in range(100)} == {"train", "validation", "test"}
    assert splitter.split(None, "id 7") == splitter.split("id 7", "other")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no usable record in the source. Rejected: 2 x not JSON"),
        ({"train": 1}, "validation got none of 1"),
        ({"train": 5, "validation": 1}, "test got none of 6"),
    ],
)
def test_empty_corpus_and_empty_split_are_errors(counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Splitter(1, _NO_GROUPS, {"validation": 0.1, "test": 0.1}).check(counts, {"not JSON": 2})


def test_a_missing_named_group_is_reported_with_the_nearest_name() -> None:
    splitter = Splitter(1, {"validation": ["hamlet"], "test": ["mackbeth"]}, {})
    splitter.note(lambda: ["hamlet", "macbeth", None, "othello"], list)
    with pytest.raises(DataError, match=r"test_groups: group 'mackbeth' not found; did you mean 'macbeth'\?"):
        splitter.check({"train": 2, "validation": 1, "test": 1}, {})


def test_a_record_without_a_group_can_be_named_by_its_id() -> None:
    splitter = Splitter(1, {"validation": ["a.txt:1"], "test": ["a.txt:2"]}, {})
    assert splitter.split(None, "a.txt:2") == "test"
    splitter.note(lambda: [None], lambda: ["a.txt:2", "a.txt:3"])
    with pytest.raises(DataError, match=r"validation_groups: group 'a.txt:1' not found; no record has a group"):
        splitter.check({"train": 2, "validation": 1, "test": 1}, {})
