"""Peers of `correcting.py`: a dictionary with edit distances, symspellpy, pyspellchecker and autocorrect.

All peers correct the words of `PLAIN` and leave other text unchanged. The libraries look up single words; symspellpy
also corrects runs of words with `lookup_compound`, which splits and joins words. Each library gets the best of three
lists of known words: its own, that of the prose, or both. It is also measured as shipped, with its own words alone.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, ClassVar

from correcting_score import line_scores, total
from correcting_texts import Correction
from rapidfuzz.distance import OSA
from rows import exit_without_peer

PLAIN = re.compile(r"(?<![\w`/.\\@#-])[A-Za-z][a-z]+(?:['\u2019][a-z]+)?(?![\w`/\\@]|\.\w|-)")
"""A word to correct: not a name in code, not a part of a path."""
RUN = re.compile(f"{PLAIN.pattern}(?: {PLAIN.pattern})*")

Frequencies = Mapping[str, int]


def cased(word: str, like: str) -> str:
    """Returns a word with a capital if `like` has one."""
    return word[0].upper() + word[1:] if like[0].isupper() else word


class Peer(ABC):
    """A corrector with settings.

    Attributes:
        name: name of the peer.
        settings: values of each setting; the first ones are the defaults.
        order: the settings to select, one after the other; a setting can occur twice.
    """

    name: str
    settings: ClassVar[Mapping[str, Sequence[Any]]]
    order: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def correct(self, text: str, **settings: Any) -> str:
        """Returns the corrected text."""

    def select(self, pairs: Sequence[Correction], **fixed: Any) -> dict[str, Any]:
        """Returns the settings with the best F0.5: one by one in `order`, or the best of all combinations.

        Args:
            pairs: the lines for tuning.
            fixed: settings that are not selected.
        """
        values = {**self.settings, **{name: (value,) for name, value in fixed.items()}}

        @cache
        def f(**settings: Any) -> float:
            return total(line_scores(pairs, lambda text: self.correct(text, **settings))).f

        if not self.order:
            candidates = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
            return max(candidates, key=lambda candidate: f(**candidate))
        selected = {name: options[0] for name, options in values.items()}
        for name in self.order:
            candidates = [selected | {name: value} for value in values[name]]
            selected = max(candidates, key=lambda candidate: f(**candidate))
        return selected


class Dictionary(Peer):
    """Replaces each unknown word with the most frequent of the nearest known words.

    Args:
        counts: known word in lower case → frequency.
    """

    name = "dictionary"
    settings: ClassVar[Mapping[str, Sequence[Any]]] = {
        "max_distance": (1, 2),
        "min_length": (4, 5, 6, 7, 8),
        "min_count": (1, 5, 20),
    }

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.index = defaultdict(list)
        for word in counts:
            if 2 < len(word) < 30:
                for shorter in self._shorter(word):
                    self.index[shorter].append(word)
        self.near = cache(self._near)

    def correct(self, text: str, *, max_distance: int, min_length: int, min_count: int) -> str:
        """Returns the corrected text.

        Args:
            text: the text.
            max_distance: maximum number of edits of a word; 1 for words of fewer than 6 letters.
            min_length: letters of the shortest word to correct.
            min_count: minimum frequency of a replacement.
        """

        def replace(match: re.Match[str]) -> str:
            """Returns the correction of a word."""
            word = match[0].lower()
            if len(word) < min_length or word in self.counts:
                return match[0]
            limit = max_distance if len(word) >= 6 else 1
            best = min(((d, -n, w) for d, n, w in self.near(word) if d <= limit and n >= min_count), default=None)
            return match[0] if best is None else cased(best[2], match[0])

        return PLAIN.sub(replace, text)

    def _near(self, word: str) -> list[tuple[int, int, str]]:
        """Returns distance, frequency and spelling of the known words within two edits."""
        candidates = {candidate for shorter in self._shorter(word) for candidate in self.index.get(shorter, ())}
        return [(d, self.counts[c], c) for c in candidates if (d := OSA.distance(word, c, score_cutoff=2)) <= 2]

    @staticmethod
    def _shorter(word: str) -> set[str]:
        """Returns the first 12 letters of a word without up to two of them."""
        once = {word[:12], *(word[:index] + word[index + 1 : 12] for index in range(min(12, len(word))))}
        return once | {prefix[:index] + prefix[index + 1 :] for prefix in once for index in range(len(prefix))}


class Library(Peer):
    """A library that corrects single words.

    Args:
        prose: word of the prose in lower case → frequency.
    """

    settings: ClassVar[Mapping[str, Sequence[Any]]] = {
        "known": ("own and prose", "own", "prose"),
        "distance": (1, 2),
        "min_length": (4, 2, 5, 6, 7, 8),
        "min_share": (0, 1e-7, 1e-6, 1e-5),
    }
    order: ClassVar[Sequence[str]] = ("known", "min_length", "min_share", "distance", "min_length", "min_share")

    def __init__(self, prose: Counter[str]) -> None:
        self.prose = prose
        self.frequencies, self.engine = cache(self._frequencies), cache(self._engine)
        self.suggestion = cache(self._suggestion)

    @abstractmethod
    def own(self) -> Frequencies:
        """Returns the words of the library and their frequencies."""

    @abstractmethod
    def build(self, frequencies: Frequencies, distance: int) -> Callable[[str], str | None]:
        """Returns the function of the library that corrects a word within `distance` edits."""

    def correct(self, text: str, *, known: str, distance: int, min_length: int, min_share: float) -> str:
        """Returns the corrected text.

        Args:
            text: the text.
            known: known words: "own", "prose" or "own and prose".
            distance: maximum number of edits of a word, 1 or 2.
            min_length: letters of the shortest word to correct.
            min_share: minimum frequency of a replacement, as a share of all words.
        """
        frequencies, words = self.frequencies(known)

        def replace(match: re.Match[str]) -> str:
            """Returns the correction of a word."""
            word = match[0]
            if len(word) < min_length or word in frequencies or word.lower() in frequencies:
                return word
            best = self.suggestion(word, known, distance)
            if not best or max(frequencies.get(best, 0), frequencies.get(best.lower(), 0)) < min_share * words:
                return word
            return cased(best, word)

        return PLAIN.sub(replace, text)

    def _suggestion(self, word: str, known: str, distance: int) -> str | None:
        return self.engine(known, distance)(word)

    def _engine(self, known: str, distance: int) -> Callable[[str], str | None]:
        return self.build(self.frequencies(known)[0], distance)

    def _frequencies(self, known: str) -> tuple[Frequencies, int]:
        """Returns the known words with their frequencies, and the sum of the frequencies."""
        if known == "prose":
            return self.prose, self.prose.total()
        frequencies = Counter(self.own())
        if known == "own and prose":  # both texts count the same
            scale = frequencies.total() / self.prose.total()
            frequencies.update({word: max(1, round(count * scale)) for word, count in self.prose.items()})
        return frequencies, frequencies.total()


class SymSpellWords(Library):
    """symspellpy, word by word."""

    name = "symspellpy"

    def own(self) -> Frequencies:
        """Returns the words of the library and their frequencies."""
        lines = _symspell_file("frequency_dictionary_en_82_765.txt").read_text(encoding="utf-8-sig").splitlines()
        return {word: int(count) for word, count in (line.split() for line in lines)}

    def build(self, frequencies: Frequencies, distance: int) -> Callable[[str], str | None]:
        """Returns `SymSpell.lookup` for the nearest, most frequent word."""
        from symspellpy import Verbosity

        symspell = _symspell(frequencies, distance)

        def look_up(word: str) -> str | None:
            """Returns the correction of a word."""
            suggestions = symspell.lookup(word.lower(), Verbosity.TOP, max_edit_distance=distance)
            return suggestions[0].term if suggestions else None

        return look_up


class SymSpellCompound(SymSpellWords):
    """symspellpy, several words at once: it also splits and joins words."""

    name = "symspellpy compound"
    settings: ClassVar[Mapping[str, Sequence[Any]]] = {"known": ("own and prose", "own", "prose"), "distance": (1, 2)}
    order: ClassVar[Sequence[str]] = ()

    def build(self, frequencies: Frequencies, distance: int) -> Callable[[str], str | None]:
        """Returns `SymSpell.lookup_compound`."""
        symspell = _symspell(frequencies, distance)
        symspell.load_bigram_dictionary(str(_symspell_file("frequency_bigramdictionary_en_243_342.txt")), 0, 2)

        def look_up(words: str) -> str | None:
            """Returns the correction of a run of words."""
            return symspell.lookup_compound(words, distance, transfer_casing=True)[0].term

        return look_up

    def correct(self, text: str, *, known: str, distance: int) -> str:  # type: ignore[override]
        """Returns the corrected text; the settings are those of `Library`."""
        return RUN.sub(lambda match: self.suggestion(match[0], known, distance) or match[0], text)


class PySpellChecker(Library):
    """pyspellchecker."""

    name = "pyspellchecker"

    def own(self) -> Frequencies:
        """Returns the words of the library and their frequencies."""
        return dict(_spell_checker(1).word_frequency.dictionary)

    def build(self, frequencies: Frequencies, distance: int) -> Callable[[str], str | None]:
        """Returns `SpellChecker.correction`."""
        checker = _spell_checker(distance, language=None)
        checker.word_frequency.load_json(dict(frequencies))
        return checker.correction


class Autocorrect(Library):
    """autocorrect. It knows words with capitals, so words keep theirs."""

    name = "autocorrect"

    def own(self) -> Frequencies:
        """Returns the words of the library and their frequencies."""
        return _speller().nlp_data

    def build(self, frequencies: Frequencies, distance: int) -> Callable[[str], str | None]:
        """Returns `Speller.autocorrect_word`; `fast` means one edit."""
        return _speller(nlp_data=frequencies, fast=distance == 1).autocorrect_word


def libraries(prose: Counter[str]) -> list[Library]:
    """Returns the peers that are libraries."""
    return [kind(prose) for kind in (SymSpellWords, SymSpellCompound, PySpellChecker, Autocorrect)]


def _symspell(frequencies: Frequencies, distance: int) -> Any:
    try:
        from symspellpy import SymSpell
        from symspellpy.editdistance import DistanceAlgorithm, EditDistance
    except ImportError as error:
        exit_without_peer(error)
    symspell = SymSpell(distance, distance_comparer=EditDistance(DistanceAlgorithm.DAMERAU_OSA))
    for word, count in frequencies.items():
        symspell.create_dictionary_entry(word, count)
    return symspell


def _symspell_file(name: str) -> Any:
    try:
        return files("symspellpy") / name
    except ImportError as error:
        exit_without_peer(error)


def _spell_checker(distance: int, **options: Any) -> Any:
    try:
        from spellchecker import SpellChecker
    except ImportError as error:
        exit_without_peer(error)
    return SpellChecker(distance=distance, **options)


def _speller(**options: Any) -> Any:
    try:
        from autocorrect import Speller
    except ImportError as error:
        exit_without_peer(error)
    return Speller(**options)
