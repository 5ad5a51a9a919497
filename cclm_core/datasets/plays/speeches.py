"""Types that the two parsers of plays share: speeches, unusable text, and a builder that collects both."""

import re
from typing import NamedTuple


class Speech(NamedTuple):
    """The text of one speaker up to the next, with line breaks and without stage directions; `line` counts from 1."""

    speaker: str
    text: str
    line: int


class Leftover(NamedTuple):
    """Text that is neither a speech nor front or back matter; it goes to the quarantine."""

    line: int
    reason: str
    excerpt: str


class Parsed(NamedTuple):
    """One edition of a play: the speeches in order, the lines of its list of persons, and the unusable text."""

    speeches: list[Speech]
    persons: list[str]
    leftovers: list[Leftover]


class SpeechBuilder:
    """Collects lines into speeches; a speech ends at the next speaker or scene."""

    def __init__(self) -> None:
        self.speeches: list[Speech] = []
        self.leftovers: list[Leftover] = []
        self.speaker: str | None = None
        self._lines: list[str] = []
        self._start = 0
        self._orphan = -1

    def begin(self, speaker: str | None, line: int) -> None:
        """Starts a speech; with None, a scene starts and there is no speaker yet."""
        self.end()
        self.speaker, self._start = speaker, line

    def add(self, text: str, line: int) -> None:
        """Adds a line to the current speech; without a speaker, the line becomes a leftover."""
        tidy = re.sub(r"[ \t]+", " ", text).strip()
        if not tidy:
            return
        if self.speaker is None:
            if self._orphan != line - 1:
                self.leftovers.append(Leftover(line, "text without a speaker", tidy[:80]))
            self._orphan = line
            return
        self._lines.append(tidy)

    def end(self) -> None:
        """Ends the current speech."""
        if self.speaker is not None:
            if self._lines:
                self.speeches.append(Speech(self.speaker, "\n".join(self._lines), self._start))
            elif self._start:
                self.leftovers.append(Leftover(self._start, "speaker without text", self.speaker))
        self.speaker, self._lines = None, []
