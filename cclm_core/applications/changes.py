"""The differences between a text and its correction, in time that grows with the length and not with its square."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein, Postfix, Prefix

_SHORT = 1000  # characters of a text that is compared character by character
_TOKEN = re.compile(r"\S+\s*|\s+")


class Change(NamedTuple):
    """The characters from `start` to `end` (exclusive) of the original become `replacement`."""

    start: int
    end: int
    replacement: str


def changes(original: str, corrected: str) -> list[Change]:
    """The differences between two texts; characters that are equal in both are not part of a change.

    Long texts are compared word by word first, and then character by character in the words that differ.

    >>> changes("teh cat", "the cat")
    [Change(start=1, end=1, replacement='h'), Change(start=2, end=3, replacement='')]
    """
    return list(_merged(_differences(original, corrected, 0)))


def _differences(original: str, corrected: str, start: int) -> Iterator[Change]:
    """The changes of a part of the original that begins at `start`; adjacent ones are not merged."""
    if original == corrected:
        return
    if max(len(original), len(corrected)) <= _SHORT:
        matcher = SequenceMatcher(None, original, corrected, autojunk=False)
        yield from (
            Change(start + begin, start + end, corrected[new_begin:new_end])
            for tag, begin, end, new_begin, new_end in matcher.get_opcodes()
            if tag != "equal"
        )
        return
    prefix = Prefix.similarity(original, corrected)
    suffix = Postfix.similarity(original[prefix:], corrected[prefix:])
    old, new = (text[prefix : len(text) - suffix] for text in (original, corrected))
    yield from _long_differences(old, new, start + prefix)


def _long_differences(original: str, corrected: str, start: int) -> Iterator[Change]:
    """The changes between two texts that differ in their first and in their last character."""
    old, new = _TOKEN.findall(original), _TOKEN.findall(corrected)
    opcodes = list(Levenshtein.opcodes(old, new))
    if not any(opcode.tag == "equal" for opcode in opcodes):  # no word in common: compare all characters
        for opcode in Levenshtein.opcodes(original, corrected):
            if opcode.tag != "equal":
                replacement = corrected[opcode.dest_start : opcode.dest_end]
                yield Change(start + opcode.src_start, start + opcode.src_end, replacement)
        return
    places = _starts(old)
    for is_equal, group in groupby(opcodes, key=lambda opcode: opcode.tag == "equal"):
        part = list(group)
        if not is_equal:
            begin, end = part[0].src_start, part[-1].src_end
            there = "".join(new[part[0].dest_start : part[-1].dest_end])
            yield from _differences("".join(old[begin:end]), there, start + places[begin])


def _starts(tokens: Sequence[str]) -> list[int]:
    """Where each token starts, and where the last one ends."""
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token))
    return starts


def _merged(parts: Iterator[Change]) -> Iterator[Change]:
    """Joins changes between which no character is kept."""
    last: Change | None = None
    for change in parts:
        if last is not None and last.end == change.start:
            last = Change(last.start, change.end, last.replacement + change.replacement)
            continue
        if last is not None:
            yield last
        last = change
    if last is not None:
        yield last
