"""What the two parsers of plays share: a speech, a piece of text that could not be used, and how lines are tidied."""

import re
from typing import NamedTuple


class Speech(NamedTuple):
    """What one speaker says until another begins; directions removed, line breaks kept."""

    speaker: str
    text: str
    line: int


class Leftover(NamedTuple):
    """A piece of a file that is neither a speech nor apparatus: it goes to the quarantine."""

    line: int
    reason: str
    excerpt: str


class Parsed(NamedTuple):
    """One edition of a play: its speeches, in order; its list of persons, as lines; what was left over."""

    speeches: list[Speech]
    persons: list[str]
    leftovers: list[Leftover]


class SpeechBuilder:
    """Collects lines into speeches: text belongs to the last speaker until another one or a new scene begins."""

    def __init__(self) -> None:
        self.speeches: list[Speech] = []
        self.leftovers: list[Leftover] = []
        self.speaker: str | None = None
        self._lines: list[str] = []
        self._start = 0
        self._orphan = -1

    def begin(self, speaker: str | None, line: int) -> None:
        """A speaker begins (None: a scene begins and nobody speaks yet)."""
        self.end()
        self.speaker, self._start = speaker, line

    def add(self, text: str, line: int) -> None:
        """A line of text for the current speaker; without one it is left over."""
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
        """Closes the speech that is open."""
        if self.speaker is not None:
            if self._lines:
                self.speeches.append(Speech(self.speaker, "\n".join(self._lines), self._start))
            elif self._start:
                self.leftovers.append(Leftover(self._start, "speaker without text", self.speaker))
        self.speaker, self._lines = None, []
