"""A profile of incoming data: what the expectations of `ingest.expectations` are about, by source and by file.

A profile has counts, so two profiles can be compared without the texts. It holds no text except a few short excerpts of
texts with characters that the accepted data do not have; a stored profile has no excerpts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.trigrams import TrigramModel, TrigramSample
from cclm_core.runtime.artifacts import rounded
from cclm_core.runtime.errors import ArtifactError, DataError
from cclm_core.runtime.readers import read_json

FORMAT = "cclm-profile-1"
PROFILE, ACCEPTED = "profile.json", "accepted.json"
"""The profile of a corpus, next to its checks; the accepted profile, in the folder of the contract."""

ONLY = "source"
"""The name of the source if there is only one, `ingest.source`."""

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
DUPLICATES = ("duplicate id", "duplicate text", "near duplicate")
EXAMPLES = 3
MAX_CHARACTERS = 10_000  # different ones that a stored profile lists; Chinese text has about 8,000
MAX_LABELS = 1_000
MAX_FILES = 1_000  # profiled one by one; each takes about 10 KB of memory
_EXCERPT = 80


class Unit(NamedTuple):
    """What a profile is about: a source, or one of its files (`file` is "" for the whole source)."""

    source: str
    file: str = ""

    def __str__(self) -> str:
        """For messages."""
        return f"file {self.file}" if self.file else "the source" if self.source == ONLY else f"source {self.source}"


@dataclass
class Profile:
    """Counts of the texts of a unit.

    Attributes:
        texts: number of kept texts.
        characters: character -> how often it occurs; the most frequent ones if it was stored.
        total: number of characters, those that are not in `characters` included.
        lengths: quantile, such as 0.5 -> length of a text in characters.
        labels: label -> number of texts.
        unlabeled: number of texts without a label.
        duplicates: number of records removed as duplicates.
        rejected: reason -> number of other rejected records.
        trigrams: sequence of three characters -> how often it occurs, the most frequent ones of half of the texts.
        bits: bits per character of the other half under these trigrams; None if it was not measured.
        accepted_bits: bits per character of the other half under the trigrams of the accepted data of the source; None
            if it was not measured. It is not stored.
        examples: measure -> a few records, `FILE:LINE  excerpt`.
    """

    texts: int = 0
    characters: Counter[str] = field(default_factory=Counter)
    total: int = 0
    lengths: dict[float, int] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    unlabeled: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    trigrams: Counter[str] = field(default_factory=Counter)
    bits: float | None = None
    accepted_bits: float | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The profile as it is stored."""
        return {
            "texts": self.texts,
            "characters": _ranked(self.characters, MAX_CHARACTERS),
            "total": self.total,
            "lengths": {str(quantile): length for quantile, length in self.lengths.items()},
            "labels": _ranked(self.labels, MAX_LABELS),
            "unlabeled": self.unlabeled,
            "duplicates": self.duplicates,
            "rejected": _ranked(self.rejected, None),
            "trigrams": _ranked(self.trigrams, None),
            "bits": None if self.bits is None else rounded(self.bits),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Profile":
        """The profile that `as_json` returned."""
        return cls(
            texts=int(values["texts"]),
            characters=Counter(dict(values["characters"])),
            total=int(values["total"]),
            lengths={float(quantile): int(length) for quantile, length in values["lengths"].items()},
            labels=Counter(dict(values["labels"])),
            unlabeled=int(values["unlabeled"]),
            duplicates=int(values["duplicates"]),
            rejected=Counter(dict(values["rejected"])),
            trigrams=_trigrams(values.get("trigrams", ())),  # profiles of earlier versions have none
            bits=None if values.get("bits") is None else float(values["bits"]),
        )


@dataclass(frozen=True)
class Accepted:
    """The profile of the data that were accepted last.

    Attributes:
        sources: source -> profile.
        alphabet: the alphabet of the vocabulary when the data were accepted; None if there was none.
    """

    sources: Mapping[str, Profile]
    alphabet: str | None

    @property
    def known(self) -> frozenset[str]:
        """All characters of the accepted data."""
        return frozenset(character for profile in self.sources.values() for character in profile.characters)

    @classmethod
    def read(cls, folder: Path) -> "Accepted | None":
        """Reads the accepted profile in the folder of the contract; None if no data have been accepted.

        Raises:
            ArtifactError: the file is damaged.
        """
        path = folder / ACCEPTED
        if not path.is_file():
            return None
        values = read_json(path)
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"its format is {values['format']!r:.40}, not {FORMAT}")
            sources = {name: Profile.from_json(profile) for name, profile in values["sources"].items()}
            return cls(sources, values["alphabet"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is damaged: {error}. Restore it, e.g. with `git checkout {path}`, or accept the data of the "
                "last run again: `cclm data accept`."
            ) from None


class Profiler:
    """Profiles records while they are read, by source, and by file if asked.

    Args:
        accepted: the accepted data, to find examples of new characters and unusual texts; None if there are none.
        by_file: whether to profile each file, too.
    """

    def __init__(self, accepted: Accepted | None, by_file: bool) -> None:
        self.profiles: dict[Unit, Profile] = {}
        self._lengths: dict[Unit, Counter[int]] = {}
        self._extremes: dict[tuple[Unit, str], tuple[float, str]] = {}
        self._samples: dict[Unit, TrigramSample] = {}
        self._by_file = by_file
        self._models = {
            name: TrigramModel(profile.trigrams)
            for name, profile in (accepted.sources if accepted else {}).items()
            if profile.trigrams
        }
        self._known = None if accepted is None else {ord(character) for character in accepted.known}
        self._alphabet = None if accepted is None or accepted.alphabet is None else set(map(ord, accepted.alphabet))

    def add(
        self, source: str, table: pa.Table, files: Collection[str], lines: Iterable[int], rejected: Iterable[Rejected]
    ) -> None:
        """Adds records of one source.

        Args:
            source: name of the source.
            table: N kept records.
            files, lines: (N,) location of each.
            rejected: the rejected input, duplicates included.

        Raises:
            DataError: there are more than 1,000 files to profile one by one.
        """
        source = source or ONLY
        names = np.array(list(files), dtype=object)
        numbers = np.array(list(lines), dtype=np.int64)
        self._add_texts(Unit(source), table, names, numbers)
        if self._by_file:
            for name in dict.fromkeys(names.tolist()):
                mask = names == name
                self._add_texts(Unit(source, name), table.filter(pa.array(mask)), names[mask], numbers[mask])
        for item in rejected:
            for unit in self._units(source, item.file):
                self._add_rejected(self._of(unit), item)

    def finish(self) -> dict[Unit, Profile]:
        """The profiles, with the quantiles of their lengths and the bits of their characters, in order."""
        for unit, sample in self._samples.items():
            profile = self.profiles[unit]
            profile.accepted_bits = sample.bits_per_character
            if not unit.file:
                profile.trigrams, profile.bits = sample.counts()
        for unit, lengths in self._lengths.items():
            self.profiles[unit].lengths = _quantiles(lengths)
        for (unit, measure), (_, example) in self._extremes.items():
            self.profiles[unit].examples[measure] = [example]
        return dict(sorted(self.profiles.items()))

    def _units(self, source: str, file: str) -> Iterator[Unit]:
        yield Unit(source)
        if self._by_file:
            yield Unit(source, file)

    def _of(self, unit: Unit) -> Profile:
        if unit not in self.profiles:
            if len(self.profiles) > MAX_FILES:
                raise DataError(
                    f"ingest.expectations: more than {MAX_FILES} files cannot be checked one by one. Set `by: source`."
                )
            self.profiles[unit], self._lengths[unit] = Profile(), Counter()
            self._samples[unit] = TrigramSample(self._models.get(unit.source), is_counted=not unit.file)
        return self.profiles[unit]

    def _add_texts(self, unit: Unit, table: pa.Table, files: npt.NDArray[Any], lines: npt.NDArray[np.int64]) -> None:
        profile = self._of(unit)
        texts = table.column("text").to_pylist()
        if not texts:
            return
        profile.texts += len(texts)
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        for length, number in zip(*np.unique(lengths, return_counts=True), strict=True):
            self._lengths[unit][int(length)] += int(number)
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        counts = np.bincount(codes)
        present = np.flatnonzero(counts)
        profile.characters.update({chr(code): int(counts[code]) for code in present})
        profile.total += len(codes)
        for measure, known in (("alphabet", self._known), ("bytes", self._alphabet)):
            shown = profile.examples.setdefault(measure, [])
            if known is not None and len(shown) < EXAMPLES:
                new = {chr(code) for code in present if int(code) not in known}
                shown += _examples(texts, files, lines, new, EXAMPLES - len(shown))
        worst, bits = self._samples[unit].add(texts)
        former_bits = self._extremes.get((unit, "bits"), (0, ""))[0]
        if worst >= 0 and bits > former_bits:
            example = f"{_located(files[worst], int(lines[worst]), texts[worst])} ({bits:.1f} bits per character)"
            self._extremes[unit, "bits"] = (bits, example)
        for measure, row in (("shortest", int(lengths.argmin())), ("longest", int(lengths.argmax()))):
            length, former = int(lengths[row]), self._extremes.get((unit, measure))
            if former is None or (length < former[0] if measure == "shortest" else length > former[0]):
                example = f"{_located(files[row], int(lines[row]), texts[row])} ({length:,} characters)"
                self._extremes[unit, measure] = (length, example)
        labels = Counter(table.column("label").to_pylist())
        profile.unlabeled += labels.pop(None, 0)
        for label, number in labels.items():
            if label in profile.labels or len(profile.labels) < MAX_LABELS:
                profile.labels[label] += number

    def _add_rejected(self, profile: Profile, item: Rejected) -> None:
        is_duplicate = item.reason in DUPLICATES
        if is_duplicate:
            profile.duplicates += 1
        else:
            profile.rejected[item.reason] += 1
        shown = profile.examples.setdefault("duplicates" if is_duplicate else "rejected", [])
        if len(shown) < EXAMPLES:
            why = f"like {item.duplicate_of}" if is_duplicate else item.reason
            shown.append(f"{_located(item.file, item.line, item.excerpt)} ({why})")


def profile_json(profiles: Mapping[Unit, Profile]) -> dict[str, Any]:
    """The profiles of the sources as they are stored; those of files are not."""
    return {
        "format": FORMAT,
        "sources": {unit.source: profile.as_json() for unit, profile in profiles.items() if not unit.file},
    }


def _examples(
    texts: list[str], files: npt.NDArray[Any], lines: npt.NDArray[np.int64], characters: Collection[str], number: int
) -> list[str]:
    """The first texts that have any of the characters."""
    shown: list[str] = []
    for row, text in enumerate(texts) if characters else ():
        if len(shown) == number:
            break
        if new := [character for character in text if character in characters]:
            start = max(0, text.index(new[0]) - _EXCERPT // 2)
            shown.append(f"{_located(files[row], int(lines[row]), text[start:])} ({_code_points(new)})")
    return shown


def _code_points(characters: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(characters))
    return ", ".join(f"U+{ord(character):04X}" for character in distinct[:5]) + (", ..." if len(distinct) > 5 else "")


def _located(file: str, line: int, text: str) -> str:
    place = f"{file}:{line}" if line else file
    return f"{place}  {text[:_EXCERPT]!r}"


def _quantiles(lengths: Counter[int]) -> dict[float, int]:
    """The quantiles of counted lengths: the smallest length that is reached by that share of the texts."""
    if not lengths:
        return {}
    values = np.array(sorted(lengths))
    reached = np.cumsum([lengths[int(value)] for value in values]) / lengths.total()
    return {
        quantile: int(values[min(int(np.searchsorted(reached, quantile)), len(values) - 1)]) for quantile in QUANTILES
    }


def _trigrams(pairs: Iterable[Any]) -> Counter[str]:
    """The stored trigrams.

    Raises:
        ValueError: one is not a sequence of three characters with a count.
    """
    trigrams = dict(pairs)
    for trigram, number in trigrams.items():
        if not isinstance(trigram, str) or len(trigram) != 3 or not isinstance(number, int) or number < 1:
            raise ValueError(f"{trigram!r:.40}: {number!r:.40} must be three characters with their count")
    return Counter(trigrams)


def _ranked(counter: Counter[str], limit: int | None) -> list[list[Any]]:
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
    return [[name, number] for name, number in ordered[:limit]]
