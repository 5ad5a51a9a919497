"""Sequence labels: recognizes their scheme, and reports what is illegal in it.

| scheme | begin | inside | end | single |
|---|---|---|---|---|
| `iob1` | I; B only after an entity of the same label | I | | |
| `iob2` (BIO) | B | I | | |
| `bioes` (IOBES) | B | I | E | S |
| `bilou` | B | I | L | U |
| `bmes` | B | M | E | S |
| `io` | bare labels: equal neighbors are one entity | | | |

The entities of a sentence do not depend on the scheme, apart from `io`: see `ingest.sources.conll`. What is illegal is
repaired by rule: a tag without a start begins an entity, and an entity without an end ends at its last tag.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

TagScheme = Literal["iob1", "iob2", "bioes", "bilou", "bmes", "io"]

_LETTERS: dict[TagScheme, str] = {"iob1": "BI", "iob2": "BI", "bioes": "BIES", "bilou": "BILU", "bmes": "BMES"}
_INSIDE, _ENDS, _SINGLE = "IM", "EL", "SU"

NO_START = "a tag continues an entity that was not begun"
NO_END = "an entity has no end"
NEEDLESS_BEGIN = "B- does not follow an entity of the same label"
OTHER_PREFIX = "a prefix is not of the scheme"

_REPAIRS = {
    NO_START: "It begins an entity.",
    NO_END: "It ends at its last tag.",
    NEEDLESS_BEGIN: "It begins an entity.",
    OTHER_PREFIX: "It is read as in the scheme that has it.",
}


class TaggedSentence(NamedTuple):
    """The N tags of a sentence, and the N lines that they are on, from 1."""

    file: str
    lines: tuple[int, ...]
    tags: tuple[str, ...]


class IllegalTags(NamedTuple):
    """One kind of illegal tag: how often it occurs, where first, and the tags there."""

    kind: str
    times: int
    file: str
    line: int
    excerpt: str

    def message(self) -> str:
        """What is wrong, where first, and how it is repaired."""
        return (
            f"{self.kind}: {self.times} times, first at {self.file}:{self.line} ({self.excerpt}). {_REPAIRS[self.kind]}"
        )


def check_tags(
    sentences: Iterable[TaggedSentence], scheme: TagScheme | None
) -> tuple[dict[str, TagScheme], list[IllegalTags]]:
    """Recognizes the scheme of each file, and counts what is illegal in it.

    Args:
        sentences: the sentences of all files; those of a file follow each other.
        scheme: the scheme of all files; None to recognize that of each.

    Returns:
        File → its scheme, and the kinds of illegal tags.
    """
    schemes: dict[str, TagScheme] = {}
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, int, str]] = {}
    for file, group in groupby(sentences, key=lambda sentence: sentence.file):
        members = list(group)
        schemes[file] = scheme or detect_scheme(sentence.tags for sentence in members)
        for sentence in members:
            for index, kind in illegal_tags(sentence.tags, schemes[file]):
                counts[kind] += 1
                excerpt = " ".join(sentence.tags[max(0, index - 1) : index + 2])
                first.setdefault(kind, (file, sentence.lines[index], excerpt))
    return schemes, [IllegalTags(kind, counts[kind], *first[kind]) for kind in sorted(counts)]


def detect_scheme(sequences: Iterable[Sequence[str]]) -> TagScheme:
    """Recognizes the scheme of tags that have prefixes. Without evidence for another one, it is `iob2`.

    >>> detect_scheme([["I-PER", "I-PER", "B-PER", "O"]]), detect_scheme([["B-PER", "L-PER", "U-LOC"]])
    ('iob1', 'bilou')
    """
    letters: set[str] = set()
    starts_inside = begins_elsewhere = False
    for tags in sequences:
        letters.update(tag[0] for tag in tags if tag != "O")
        kinds = {kind for _, kind in illegal_tags(tags, "iob2")}
        starts_inside = starts_inside or NO_START in kinds
        begins_elsewhere = begins_elsewhere or any(kind == NEEDLESS_BEGIN for _, kind in illegal_tags(tags, "iob1"))
    if letters & set("LU"):
        return "bilou"
    if "M" in letters:
        return "bmes"
    if letters & set("ES"):
        return "bioes"
    return "iob1" if starts_inside and not begins_elsewhere else "iob2"


def illegal_tags(tags: Sequence[str], scheme: TagScheme) -> Iterator[tuple[int, str]]:
    """Yields the position and kind of each illegal tag.

    >>> list(illegal_tags(["O", "I-PER"], "iob2"))
    [(1, 'a tag continues an entity that was not begun')]
    """
    if scheme == "io":
        return
    letters = _LETTERS[scheme]
    has_ends = len(letters) > 2
    open_label: str | None = None
    for index, tag in enumerate(tags):
        prefix, label = ("O", None) if tag == "O" else (tag[0], tag[2:])
        if prefix != "O" and prefix not in letters:
            yield index, OTHER_PREFIX
        continues = prefix in _INSIDE + _ENDS and label == open_label
        if has_ends and open_label is not None and not continues:
            yield index - 1, NO_END
        if prefix in _INSIDE + _ENDS and not continues and scheme != "iob1":
            yield index, NO_START
        if scheme == "iob1" and prefix == "B" and label != open_label:
            yield index, NEEDLESS_BEGIN
        open_label = label if prefix in "B" + _INSIDE else None
    if has_ends and open_label is not None:
        yield len(tags) - 1, NO_END
