"""Reads CoNLL files: a token and its tag per line, an empty line after each sentence.

Columns are separated by tabs; in a line without a tab, by spaces. The text of a sentence is its tokens, joined by
spaces or another separator. The sentences after a `-DOCSTART-` line, up to the next one, are one group. Lines before
the first token that begin with `#` and are no token lines, such as `# sent_id = 7`, are comments.

A tag is O or a prefix, a hyphen and a label. The prefixes of all schemes can be read together, since each letter means
the same in all of them:

| meaning | letters | scheme |
|---|---|---|
| begin | B | all |
| inside | I, M | IOB, IOBES, BILOU; BMES |
| end | E, L | IOBES, BMES; BILOU |
| single | S, U | IOBES, BMES; BILOU |

Any other tag rejects its sentence. If no tag but O is of this form, the file is refused: the column is wrong, or the
tags are bare labels, which the scheme `io` reads.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record
from cclm_core.ingest.sources.lines import LONGEST_LINE
from cclm_core.runtime.errors import DataError

TagScheme = Literal["iob", "io"]

_CONTINUES, _ENDS = "IMEL", "ELSU"
_PREFIXES = frozenset("BIMELSU")
_TOO_LONG = f"sentence longer than {LONGEST_LINE} characters"


class ConllFormat(NamedTuple):
    """The layout of a file.

    Args:
        token_column, tag_column: columns, from 0; -1 is the last.
        tag_scheme: `iob` for tags with a prefix, of any scheme; `io` for bare labels, where equal neighbors are one
            entity.
        token_separator: the text between two tokens; empty for scripts without spaces.
        keep_tags: whether each record is a `TaggedRecord`.
    """

    token_column: int = 0
    tag_column: int = -1
    tag_scheme: TagScheme = "iob"
    token_separator: str = " "
    keep_tags: bool = False


@dataclass(frozen=True, slots=True)
class TaggedRecord(Record):
    """A sentence with its N tokens, their N tags, and the N lines that they are on, from 1."""

    tokens: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


def read_conll(
    lines: Iterable[tuple[int, str] | Rejected], name: str, layout: ConllFormat, group: str | None
) -> Iterator[Located | Rejected]:
    """Yields the sentences of a file; one invalid line rejects its whole sentence.

    Args:
        lines: numbered lines from `read_lines`.
        name: name of the file, for ids and rejections.
        layout: columns and tags.
        group: group of all records; None for one group per document, if the file marks documents.

    Raises:
        DataError: the file has tags other than O, but none of the scheme.
    """
    reader = _Reader(name, layout)
    document = 0
    sentence = _Sentence()
    for item in lines:
        if isinstance(item, Rejected):
            sentence.problem = sentence.problem or item
            continue
        line, text = item
        if text.startswith("-DOCSTART-") and text.split()[0] == "-DOCSTART-":
            yield from reader.records(sentence, group or (f"{name}#{document}" if document else None))
            sentence = _Sentence()
            document += 1
        elif text.strip():
            sentence.add(line, text, name)
        elif sentence.lines or sentence.problem:
            yield from reader.records(sentence, group or (f"{name}#{document}" if document else None))
            sentence = _Sentence()
    yield from reader.records(sentence, group or (f"{name}#{document}" if document else None))
    reader.check_scheme()


def tagged_entities(
    tokens: Sequence[str], tags: Sequence[str], scheme: TagScheme = "iob", separator: str = " "
) -> tuple[Entity, ...]:
    """Returns the entities as character spans over the joined tokens.

    >>> tagged_entities(["In", "New", "York", "."], ["O", "B-LOC", "I-LOC", "O"])
    (Entity(start=3, end=11, label='LOC'),)
    """
    spans: list[Entity] = []
    position, open_label = 0, None
    for token, tag in zip(tokens, tags, strict=True):
        prefix, label = ("I", tag) if scheme == "io" and tag != "O" else (tag[:1], tag[2:])
        end = position + len(token)
        if tag == "O":
            open_label = None
        elif prefix in _CONTINUES and label == open_label:
            spans[-1] = Entity(spans[-1].start, end, label)
        else:
            spans.append(Entity(position, end, label))
        if tag != "O":
            open_label = None if prefix in _ENDS else label
        position = end + len(separator)
    return tuple(spans)


def is_tag(tag: str, scheme: TagScheme) -> bool:
    """Returns whether a tag is of the scheme: O, or for `iob` such as B-LOC, for `io` any label."""
    return tag == "O" or scheme == "io" or (tag[:1] in _PREFIXES and tag[1:2] == "-" and len(tag) > 2)


@dataclass
class _Sentence:
    """The lines of a sentence, and the first problem in it."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    problem: Rejected | None = None
    length: int = 0

    def add(self, line: int, text: str, name: str) -> None:
        """Adds a line; keeps none of them once the sentence is too long."""
        self.length += len(text)
        if self.length > LONGEST_LINE:
            self.problem = self.problem or Rejected(name, line, _TOO_LONG, text)
            self.lines = self.lines[:1]
        else:
            self.lines.append((line, text))


class _Reader:
    """Turns sentences into records; remembers the number of columns and which tags the file has."""

    def __init__(self, name: str, layout: ConllFormat) -> None:
        self._name, self._layout = name, layout
        self._num_columns = 0
        self._has_known = False
        self._unknown: tuple[int, str] | None = None

    def records(self, sentence: _Sentence, group: str | None) -> Iterator[Located | Rejected]:
        """Yields the record of a sentence or its rejection; nothing for comments alone."""
        rows = [(line, text, _fields(text)) for line, text in sentence.lines]
        if not sentence.problem:
            rows = self._without_comments(rows)
        if not rows and not sentence.problem:
            return
        problem = sentence.problem or self._problem(rows)
        if problem:
            last = sentence.lines[-1][0] if sentence.lines else 0
            yield problem._replace(last_line=last if last > problem.line else 0)
            return
        self._num_columns = self._num_columns or len(rows[0][2])
        tokens = [fields[self._layout.token_column] for *_, fields in rows]
        tags = [fields[self._layout.tag_column] for *_, fields in rows]
        self._has_known = self._has_known or any(tag != "O" for tag in tags)
        separator = self._layout.token_separator
        entities = tagged_entities(tokens, tags, self._layout.tag_scheme, separator)
        line = rows[0][0]
        common: dict[str, Any] = {"id": f"{self._name}:{line}", "text": separator.join(tokens), "group": group}
        if self._layout.keep_tags:
            lines = tuple(number for number, *_ in rows)
            record: Record = TaggedRecord(
                **common, entities=entities, tokens=tuple(tokens), tags=tuple(tags), lines=lines
            )
        else:
            record = Record(**common, entities=entities)
        yield Located(record, self._name, line)

    def check_scheme(self) -> None:
        """Checks, after the last sentence, that the tags of the file were understood.

        Raises:
            DataError: there are tags other than O, but none of the scheme.
        """
        if self._unknown and not self._has_known:
            line, tag = self._unknown
            raise DataError(
                f"{self._name}: no tag is of a known scheme, such as B-LOC; line {line} has {tag[:80]!r}. Set "
                "ingest.source.tag_column (from 0; -1 is the last), or `tag_scheme: io` for bare labels."
            )

    def _problem(self, rows: list[tuple[int, str, list[str]]]) -> Rejected | None:
        """Returns the rejection for the first unusable line; None if all are token lines."""
        expected = self._num_columns or len(rows[0][2])
        needed = max(self._layout.token_column, self._layout.tag_column)
        for line, text, fields in rows:
            if needed >= len(fields) or (len(fields) < 2 and self._layout.tag_column != self._layout.token_column):
                return Rejected(self._name, line, "too few columns", text)
            if len(fields) != expected:
                return Rejected(self._name, line, f"{expected} columns expected", text)
            if not fields[self._layout.token_column]:
                return Rejected(self._name, line, "empty token", text)
            if "\r" in text:
                return Rejected(self._name, line, "CR inside a line", text)
            tag = fields[self._layout.tag_column]
            if not is_tag(tag, self._layout.tag_scheme):
                self._unknown = self._unknown or (line, tag)
                return Rejected(self._name, line, "unknown tag", text)
        return None

    def _without_comments(self, rows: list[tuple[int, str, list[str]]]) -> list[tuple[int, str, list[str]]]:
        """Drops the lines before the first token line that begin with # and are no token lines themselves."""
        begin = 0
        while begin < len(rows) and rows[begin][1].startswith("#") and not self._is_token(rows[begin][2], rows):
            begin += 1
        return rows[begin:]

    def _is_token(self, fields: list[str], rows: list[tuple[int, str, list[str]]]) -> bool:
        """Returns whether a line that begins with # has the columns of the other lines, and a tag."""
        expected = self._num_columns or len(rows[-1][2])
        needed = max(self._layout.token_column, self._layout.tag_column, 1)
        return (
            not fields[0].startswith("# ")
            and len(fields) == expected
            and needed < len(fields)
            and is_tag(fields[self._layout.tag_column], self._layout.tag_scheme)
        )


def _fields(text: str) -> list[str]:
    """Splits at tabs if there is one, so that a token may contain spaces; otherwise at spaces, but not at NBSP.

    Several tabs count as one, because some files align their columns with them.
    """
    if "\t" in text:
        return [part.strip(" ") for part in re.split("\t+", text.rstrip(" \t"))]
    return [part for part in text.split(" ") if part]
