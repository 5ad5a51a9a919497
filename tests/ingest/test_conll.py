"""CoNLL: columns, comments and schemes of tags are recognized, or the sentence is rejected."""

import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources import conll
from cclm_core.ingest.sources.conll import ConllFormat, read_conll
from cclm_core.runtime.errors import DataError

PADDING = "Word O\nNext B-X\n\n" * 2


def _read(content: str, layout: ConllFormat | None = None) -> tuple[list[Record], list[Rejected]]:
    lines = enumerate(content.split("\n"), start=1)
    items = list(read_conll(lines, "a.conll", layout or ConllFormat(), None))
    records = [item.record for item in items if isinstance(item, Located)]
    return records, [item for item in items if isinstance(item, Rejected)]


def _spans(record: Record) -> list[tuple[str, str]]:
    return [(record.text[entity.start : entity.end], entity.label) for entity in record.entities]


def test_tokens_keep_their_spaces() -> None:
    records, rejected = _read("to\tO\nNew York\tB-LOC\n10\u00a0000\tB-NUM\n\n10\u00a0000 B-NUM\nx O\n")
    assert [(record.text, _spans(record)) for record in records] == [
        ("to New York 10\u00a0000", [("New York", "LOC"), ("10\u00a0000", "NUM")]),
        ("10\u00a0000 x", [("10\u00a0000", "NUM")]),
    ]
    assert rejected == []


def test_a_line_with_more_columns_than_the_others_rejects_its_sentence() -> None:
    records, rejected = _read(PADDING + "to O\nNew York B-LOC\n\nlast O\n")
    assert [record.text for record in records] == ["Word Next", "Word Next", "last"]
    assert [(item.line, item.reason, item.excerpt) for item in rejected] == [
        (8, "2 columns expected", "New York B-LOC")
    ]


def test_aligned_columns_and_trailing_blanks_are_read() -> None:
    records, _ = _read("Haus\t\t\tB-ORG  \nam\t\t\tI-ORG\t\nSee   I-ORG\n")
    assert _spans(records[0]) == [("Haus am See", "ORG")]


def test_comments_are_skipped_and_hash_tokens_kept() -> None:
    records, rejected = _read("# id 17\tdomain=train\nAnn\tB-PER\nlaughs\tO\n\n#\tO\nsummer\tO\n\n# the end\n\n")
    assert [(record.id, record.text) for record in records] == [("a.conll:2", "Ann laughs"), ("a.conll:5", "# summer")]
    assert rejected == []
    universal = "# sent_id = 1\n# text = Ann laughs\n1\tAnn\tB-PER\n2\tlaughs\tO\n"
    records, rejected = _read(universal, ConllFormat(token_column=1))
    assert ([record.text for record in records], rejected) == (["Ann laughs"], [])
    records, _ = _read("# id 3\tPER\nAnn\tPER\n", ConllFormat(tag_scheme="io"))
    assert [record.text for record in records] == ["Ann"]


@pytest.mark.parametrize(
    ("lines", "spans"),
    [
        ("Haus B-ORG\nam M-ORG\nSee E-ORG\nS S-X\n", [("Haus am See", "ORG"), ("S", "X")]),
        ("Haus B-ORG\nam I-ORG\nSee L-ORG\nS U-X\n", [("Haus am See", "ORG"), ("S", "X")]),
        ("Haus I-ORG\nam I-ORG\nSee B-ORG\n", [("Haus am", "ORG"), ("See", "ORG")]),
        ("Haus B-geo-loc\nam I-geo-loc\n", [("Haus am", "geo-loc")]),
    ],
)
def test_all_schemes_with_prefixes_are_read(lines: str, spans: list[tuple[str, str]]) -> None:
    assert _spans(_read(lines)[0][0]) == spans


@pytest.mark.parametrize("tags", ["PER O", "B_LOC I_LOC", "LOC-B LOC-I", "b-loc i-loc", "NN VB", "B- I-", "B I"])
def test_a_file_without_a_known_tag_is_refused(tags: str) -> None:
    first, second = tags.split()
    with pytest.raises(
        DataError, match=r"a.conll: no tag is of a known scheme.*line \d has '.*tag_column.*tag_scheme: io"
    ):
        _read(f"New {first}\nYork {second}\n\n" + "Word O\n\n" * 10)


def test_an_unknown_tag_among_known_ones_rejects_its_sentence() -> None:
    records, rejected = _read(PADDING + "New B_LOC\nYork I_LOC\n\n")
    assert len(records) == 2
    assert [(item.line, item.last_line, item.reason) for item in rejected] == [(7, 8, "unknown tag")]


def test_a_file_without_entities_is_read() -> None:
    assert len(_read("Word O\n\n" * 10)[0]) == 10


def test_bare_labels_are_read_if_the_scheme_says_so() -> None:
    records, rejected = _read("Ann PER\nLee PER\nin O\nNew LOC\nYork LOC\n", ConllFormat(tag_scheme="io"))
    assert (_spans(records[0]), rejected) == ([("Ann Lee", "PER"), ("New York", "LOC")], [])


def test_scripts_without_spaces_are_joined_without_spaces() -> None:
    records, _ = _read("王 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n", ConllFormat(token_separator=""))
    assert (records[0].text, _spans(records[0])) == ("王明在北京", [("王明", "PER"), ("北京", "LOC")])


def test_a_document_mark_ends_the_sentence() -> None:
    records, _ = _read("-DOCSTART- -X- O\none O\n-DOCSTART- -X- O\ntwo O\n")
    assert [(record.text, record.group) for record in records] == [("one", "a.conll#1"), ("two", "a.conll#2")]


def test_a_sentence_that_never_ends_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conll, "LONGEST_LINE", 100)
    records, rejected = _read("word O\n" * 1000 + "\nlast O\n")
    assert [record.text for record in records] == ["last"]
    assert [item.reason.startswith("sentence longer than") for item in rejected] == [True]
