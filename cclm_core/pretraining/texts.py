"""Splitting and encoding the texts that `fit` receives.

A hash of each text decides whether it is held out; order, seed and pretrainer do not matter. So all pretrainers hold
out the same texts, and copies of a held-out text are never trained on.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import Any, NamedTuple

from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Record
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.random import seeds_of
from cclm_core.runtime.reporting import Report
from cclm_core.text.code_points import refuse_surrogates
from cclm_core.text.texts import strings
from cclm_core.text.vocabulary import Preprocessor

_POINTS = 1 << 63
_point = seeds_of(0, "held out")
"""Hashes a text to a point in [0, `_POINTS`)."""


class Division(NamedTuple):
    """Training and held-out texts, at least one of each. Each call reads them from the beginning, in order."""

    training: Callable[[], Iterator[str]]
    held_out: Callable[[], Iterator[str]]


def divide(texts: Any, column: str | None, validation: Any, share: float) -> Division:
    """Divides texts into training and held-out texts. Empty texts are skipped.

    Args:
        texts: a list of strings, a `datasets.Dataset` or an `IterableDataset`. It is streamed several times.
        column: column of a dataset to read; None for the first string column.
        validation: a list or dataset of held-out texts. They are excluded from training; their hashes are kept in
            memory. None to hold out a share of `texts`.
        share: approximate share of the distinct texts to hold out, in (0, 1). At least one text is held out, and at
            least one is trained on.

    Raises:
        ConfigError: `share` is out of range.
        DataError: not strings, a lone surrogate (the message gives text and position), an iterator, which can be read
            only once, or fewer than two distinct texts.
    """
    read = partial(_texts, texts, column)
    if validation is None:
        is_held_out = _held_out_test(read(), share)
        return Division(lambda: filterfalse(is_held_out, read()), lambda: filter(is_held_out, read()))
    read_validation = partial(_texts, validation, column if hasattr(validation, "column_names") else None)
    points = set(map(_point, read_validation()))
    if not points:
        raise DataError("`validation` must contain a nonempty text, got none. Omit it to hold out some of `texts`.")

    def is_repeated(text: str) -> bool:
        """Whether the text is also in `validation`."""
        return _point(text) in points

    if all(map(is_repeated, read())):
        raise DataError("all texts are empty or in `validation`, so none is left to train on. Add other texts.")
    return Division(lambda: filterfalse(is_repeated, read()), read_validation)


def encode_texts(division: Division, preprocessor: Preprocessor, folder: Path, report: Report) -> EncodedCorpus:
    """Encodes both sides of `division` into an empty folder, as a stream. The splits are `train` and `validation`."""
    done = 0
    with EncodedWriter(folder, preprocessor, ()) as writer:
        for split, texts in (("train", division.training()), ("validation", division.held_out())):
            records = (Record(f"{split}/{number}", text, split=split) for number, text in enumerate(texts))
            for size in writer.write(records):
                done += size
                report(done, {})
    return EncodedCorpus.open(folder)


def _texts(texts: Any, column: str | None) -> Iterator[str]:
    if isinstance(texts, Iterator):
        raise DataError(
            f"texts are read several times, but a {type(texts).__name__} can be read only once. Convert it to a list."
        )
    for number, text in enumerate(strings(texts, column)):
        try:
            refuse_surrogates(text)
        except DataError as error:
            raise DataError(f"text {number}: {error}") from None
        if text:
            yield text


def _held_out_test(texts: Iterator[str], share: float) -> Callable[[str], bool]:
    """The test for held-out texts: the hash is in the lowest `share` of all hashes, or the lowest of these texts."""
    if not 0 < share < 1:
        raise ConfigError(
            f"`held_out` must be above 0 and below 1, got {share}. To train on all texts, pass `validation`."
        )
    lowest, highest = _POINTS, -1
    for text in texts:
        point = _point(text)
        lowest, highest = min(lowest, point), max(highest, point)
    if lowest >= highest:
        raise DataError(
            f"at least two distinct nonempty texts are needed, got {'none' if highest < 0 else 'one'}: one is held out "
            "for evaluation. Add texts, or pass other ones as `validation`."
        )

    def is_held_out(text: str) -> bool:
        """Never true for the highest hash, so that a text remains to train on."""
        point = _point(text)
        return point == lowest or (point < share * _POINTS and point != highest)

    return is_held_out
