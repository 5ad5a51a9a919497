"""Reads CoNLL files: a token and its tag per line, an empty line after each sentence.

Tags are IOB1, IOB2 (BIO), IOBES or BILOU. The text of a sentence is its tokens joined by single spaces. The sentences
after a `-DOCSTART-` line, up to the next one, are one group.
"""

from collections.abc import Iterable, Iterator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record


def read_conll(
    lines: Iterable[tuple[int, str] | Rejected], name: str, token_column: int, tag_column: int, group: str | None
) -> Iterator[Located | Rejected]:
    """Yields the sentences of a file; one invalid line rejects its whole sentence.

    Args:
        lines: numbered lines from `read_lines`.
        name: name of the file, for ids and rejections.
        token_column, tag_column: columns, from 0; -1 is the last.
        group: group of all records; None for one group per document, if the file marks documents.
    """
    tokens: list[str] = []
    tags: list[str] = []
    start, document, problem = 0, 0, None
    for item in _with_final_blank(lines):
        if isinstance(item, Rejected):
            problem = problem or item
            continue
        line, text = item
        fields = text.split()
        if fields and fields[0] == "-DOCSTART-":
            document += 1
        elif fields:
            start = start or line
            if max(token_column, tag_column) >= len(fields) or (len(fields) < 2 and tag_column != token_column):
                problem = problem or Rejected(name, line, "too few columns", text)
            else:
                tokens.append(fields[token_column])
                tags.append(fields[tag_column])
        elif tokens or problem:
            document_group = group or (f"{name}#{document}" if document else None)
            yield problem or _sentence(tokens, tags, name, start, document_group)
            tokens, tags, start, problem = [], [], 0, None


def bio_entities(tokens: list[str], tags: list[str]) -> tuple[Entity, ...]:
    """Returns the entities as character spans over `" ".join(tokens)`.

    >>> bio_entities(["In", "New", "York", "."], ["O", "B-LOC", "I-LOC", "O"])
    (Entity(start=3, end=11, label='LOC'),)
    """
    spans: list[Entity] = []
    position, open_label = 0, None
    for token, tag in zip(tokens, tags, strict=True):
        prefix, _, label = tag.partition("-")
        end = position + len(token)
        if prefix in ("O", "") or not label:
            open_label = None
        elif prefix in ("I", "E", "L") and label == open_label:
            spans[-1] = Entity(spans[-1].start, end, label)
        else:
            spans.append(Entity(position, end, label))
        if label and prefix != "O":
            open_label = None if prefix in ("E", "L", "S", "U") else label
        position = end + 1
    return tuple(spans)


def _with_final_blank(lines: Iterable[tuple[int, str] | Rejected]) -> Iterator[tuple[int, str] | Rejected]:
    """Appends an empty line, which ends the last sentence."""
    yield from lines
    yield (0, "")


def _sentence(tokens: list[str], tags: list[str], name: str, line: int, group: str | None) -> Located:
    record = Record(id=f"{name}:{line}", text=" ".join(tokens), group=group, entities=bio_entities(tokens, tags))
    return Located(record, name, line)
