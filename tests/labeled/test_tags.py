"""Schemes of tags are recognized; illegal sequences are reported once per kind, with file and line."""

import pytest

from cclm_core.ingest.sources.conll import tagged_entities
from cclm_core.labeled.tags import (
    NEEDLESS_BEGIN,
    NO_END,
    NO_START,
    OTHER_PREFIX,
    TaggedSentence,
    TagScheme,
    check_tags,
    detect_scheme,
    illegal_tags,
)

SCHEMES: dict[TagScheme, list[str]] = {
    "iob1": ["I-PER", "I-PER", "B-PER", "O", "I-LOC"],
    "iob2": ["B-PER", "I-PER", "B-PER", "O", "B-LOC"],
    "bioes": ["B-PER", "E-PER", "S-PER", "O", "S-LOC"],
    "bilou": ["B-PER", "L-PER", "U-PER", "O", "U-LOC"],
    "bmes": ["B-PER", "E-PER", "S-PER", "O", "B-LOC", "M-LOC", "E-LOC"],
}
"""The same first two entities in every scheme: words 0 and 1, and word 2."""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_is_recognized_and_its_tags_are_legal(scheme: TagScheme) -> None:
    tags = SCHEMES[scheme]
    assert detect_scheme([["O"], tags]) == scheme
    assert list(illegal_tags(tags, scheme)) == []
    entities = tagged_entities(["x"] * len(tags), tags)
    assert [(entity.start, entity.end, entity.label) for entity in entities[:2]] == [(0, 3, "PER"), (4, 5, "PER")]
    assert entities[2].start == 8 and entities[2].label == "LOC"


def test_tags_without_evidence_are_iob2() -> None:
    assert detect_scheme([]) == detect_scheme([["O", "O"]]) == detect_scheme([["B-X", "I-X"]]) == "iob2"


def test_inside_tags_without_a_start_next_to_ordinary_ones_are_errors_and_not_another_scheme() -> None:
    assert detect_scheme([["O", "I-PER"], ["O", "B-PER"]]) == "iob2"


@pytest.mark.parametrize(
    ("scheme", "tags", "illegal", "entities"),
    [
        ("iob2", "O I-X I-X", [(1, NO_START)], [(2, 5)]),
        ("iob2", "B-X I-Y", [(1, NO_START)], [(0, 1), (2, 3)]),
        ("iob2", "S-X", [(0, OTHER_PREFIX)], [(0, 1)]),
        ("iob1", "O B-X I-X", [(1, NEEDLESS_BEGIN)], [(2, 5)]),
        ("iob1", "I-X I-Y B-X", [(2, NEEDLESS_BEGIN)], [(0, 1), (2, 3), (4, 5)]),
        ("bioes", "B-X O", [(0, NO_END)], [(0, 1)]),
        ("bioes", "B-X I-X", [(1, NO_END)], [(0, 3)]),
        ("bioes", "B-X B-X E-X", [(0, NO_END)], [(0, 1), (2, 5)]),
        ("bioes", "E-X O I-X E-X", [(0, NO_START), (2, NO_START)], [(0, 1), (4, 7)]),
        ("bilou", "B-X L-Y", [(0, NO_END), (1, NO_START)], [(0, 1), (2, 3)]),
        ("io", "X X O Y", [], []),
    ],
)
def test_illegal_tags_have_a_kind_and_are_repaired(
    scheme: TagScheme, tags: str, illegal: list[tuple[int, str]], entities: list[tuple[int, int]]
) -> None:
    assert list(illegal_tags(tags.split(), scheme)) == illegal
    if scheme != "io":
        spans = tagged_entities(["x"] * len(tags.split()), tags.split())
        assert [(entity.start, entity.end) for entity in spans] == entities


def test_each_file_has_its_scheme_and_each_kind_its_first_place() -> None:
    sentences = [
        TaggedSentence("a", (1, 2), ("B-X", "I-X")),
        TaggedSentence("a", (4, 5, 6), ("O", "I-X", "O")),
        TaggedSentence("a", (8,), ("I-X",)),
        TaggedSentence("b", (1, 2), ("U-X", "B-X")),
    ]
    schemes, illegal = check_tags(sentences, None)
    assert schemes == {"a": "iob2", "b": "bilou"}
    assert [(kind.kind, kind.times, kind.file, kind.line) for kind in illegal] == [
        (NO_START, 2, "a", 5),
        (NO_END, 1, "b", 2),
    ]
    assert illegal[0].message() == (
        "a tag continues an entity that was not begun: 2 times, first at a:5 (O I-X O). It begins an entity."
    )


def test_a_configured_scheme_is_not_replaced() -> None:
    sentence = TaggedSentence("a", (1,), ("I-X",))
    assert check_tags([sentence], None) == ({"a": "iob1"}, [])
    schemes, (illegal,) = check_tags([sentence], "iob2")
    assert schemes == {"a": "iob2"} and illegal.kind == NO_START
