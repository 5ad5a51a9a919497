"""The texts given to `fit`: whole texts are held out, and all are encoded.

Which texts are held out depends on the texts alone, not on their order, a seed or the pretrainer. So all pretrainers
hold out the same texts, and no copy of a held-out text is trained on.
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
"""A pseudo-random point between 0 and `_POINTS` for a text; equal texts have equal points."""


class Division(NamedTuple):
    """Texts in two parts, neither of them empty. Each call reads a part from the beginning, in its order."""

    training: Callable[[], Iterator[str]]
    held_out: Callable[[], Iterator[str]]


def divide(texts: Any, column: str | None, validation: Any, share: float) -> Division:
    """Divides texts into those for training and those for evaluation. Empty texts are skipped.

    Args:
        texts: a list of strings, or a `datasets.Dataset` or `IterableDataset`. It is read three times as a stream.
        column: the column of a dataset to read; the first one with strings if None.
        validation: texts for evaluation, of either kind, which are left out of training. Their points are held in
            memory. If None, a share of `texts` is held out.
        share: approximate share of the distinct texts, above 0 and below 1. Each text is drawn independently, but at
            least one is held out and one is trained on.

    Raises:
        ConfigError: `share` is out of range.
        DataError: not strings, a lone surrogate (named with its text and position), an iterator, which can be read only
            once, or too few texts for two parts.
    """
    read = partial(_texts, texts, column)
    if validation is None:
        is_held_out = _drawn(read(), share)
        return Division(lambda: filterfalse(is_held_out, read()), lambda: filter(is_held_out, read()))
    read_validation = partial(_texts, validation, column if hasattr(validation, "column_names") else None)
    points = set(map(_point, read_validation()))
    if not points:
        raise DataError("`validation` must hold a text that is not empty. Omit it to hold out some of the others.")

    def is_repeated(text: str) -> bool:
        return _point(text) in points

    if all(map(is_repeated, read())):
        raise DataError("all texts are empty or in `validation`, so none is left to train on. Give other texts.")
    return Division(lambda: filterfalse(is_repeated, read()), read_validation)


def encode_texts(division: Division, preprocessor: Preprocessor, folder: Path, report: Report) -> EncodedCorpus:
    """Writes both parts as ids to an empty folder, as a stream, as the splits `train` and `validation`."""
    done = 0
    with EncodedWriter(folder, preprocessor, ()) as writer:
        for split, texts in (("train", division.training()), ("validation", division.held_out())):
            records = (Record(f"{split}/{number}", text, split=split) for number, text in enumerate(texts))
            for size in writer.write(records):
                done += size
                report(done, {})
    return EncodedCorpus.open(folder)


def _texts(given: Any, column: str | None) -> Iterator[str]:
    if isinstance(given, Iterator):
        raise DataError(
            f"texts are read several times, but a {type(given).__name__} can be read only once. Convert it to a list."
        )
    for number, text in enumerate(strings(given, column)):
        try:
            refuse_surrogates(text)
        except DataError as error:
            raise DataError(f"text {number}: {error}") from None
        if text:
            yield text


def _drawn(texts: Iterator[str], share: float) -> Callable[[str], bool]:
    """Which texts are held out: those with a point below `share` of all points, and always the lowest one."""
    if not 0 < share < 1:
        raise ConfigError(f"`held_out` must be above 0 and below 1, got {share}. To hold out none, give `validation`.")
    lowest, highest = _POINTS, -1
    for text in texts:
        point = _point(text)
        lowest, highest = min(lowest, point), max(highest, point)
    if lowest >= highest:
        raise DataError(
            f"texts must hold at least two that differ and are not empty, got {'none' if highest < 0 else 'one'}: one "
            "is held out for evaluation. Give more texts, or others as `validation`."
        )

    def is_held_out(text: str) -> bool:
        point = _point(text)
        return point == lowest or (point < share * _POINTS and point != highest)

    return is_held_out
