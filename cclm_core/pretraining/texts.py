"""Splitting and encoding the texts that `fit` receives.

A hash of each text decides whether it is held out; order, seed, labels and pretrainer do not matter. So all pretrainers
hold out the same texts, and copies of a held-out text are never trained on.

```
plain_texts(texts, column)        records without labels; see `pretraining.labeled` for records with entities
divide(read, validation, share)   training and held-out records
encode_texts(division, ...)       an encoded corpus with the splits `train` and `validation`
```
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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


Read = Callable[[], Iterator[Record]]
"""Reads all records from the beginning, in order. None of them is empty."""


class Division(NamedTuple):
    """Training and held-out records, at least one of each."""

    training: Read
    held_out: Read

    def training_texts(self) -> Iterator[str]:
        """The texts of the training records."""
        return (record.text for record in self.training())


def plain_texts(texts: Any, column: str | None) -> Read:
    """Texts as records without labels. Empty texts are skipped.

    Args:
        texts: a list of strings, a `datasets.Dataset` or another table. It is streamed several times.
        column: column of a table to read; None for the column `text`, or the only column of strings.

    Raises:
        DataError: when read: not strings, a lone surrogate (the message gives text and position), or an iterator, which
            can be read only once.
    """

    def read() -> Iterator[Record]:
        """Yields a record per text; a bad text raises a DataError with its index."""
        refuse_iterators(texts)
        for number, text in enumerate(strings(texts, column)):
            try:
                refuse_surrogates(text)
            except DataError as error:
                raise DataError(f"text {number}: {error}") from None
            if text:
                yield Record(str(number), text)

    return read


def divide(read: Read, validation: Read | None, share: float) -> Division:
    """Divides records into training and held-out records.

    Args:
        read: reads the records.
        validation: reads the held-out records. Records with the same texts are excluded from training; the hashes are
            kept in memory. None to hold out a share of the records.
        share: approximate share of the distinct texts to hold out, in (0, 1). At least one text is held out, and at
            least one is trained on.

    Raises:
        ConfigError: `share` is out of range.
        DataError: fewer than two distinct texts, or those of `read`.
    """
    if validation is None:
        is_held_out = _held_out_test(read(), share)
        return Division(lambda: filterfalse(is_held_out, read()), lambda: filter(is_held_out, read()))
    points = {_point(record.text) for record in validation()}
    if not points:
        raise DataError("`validation` must contain a nonempty text, got none. Omit it to hold out some of `texts`.")

    def is_repeated(record: Record) -> bool:
        """Whether the text is also in `validation`."""
        return _point(record.text) in points

    if all(map(is_repeated, read())):
        raise DataError("all texts are empty or in `validation`, so none is left to train on. Add other texts.")
    return Division(lambda: filterfalse(is_repeated, read()), validation)


def encode_texts(
    division: Division, preprocessor: Preprocessor, labels: Sequence[str], folder: Path, report: Report
) -> EncodedCorpus:
    """Encodes both sides of `division` into an empty folder, as a stream. The splits are `train` and `validation`.

    Args:
        division: the records.
        preprocessor: the vocabulary.
        labels: the entity labels, sorted.
        folder: an empty folder.
        report: receives the number of encoded records.

    Raises:
        DataError: a record has an entity with a label that `labels` lacks.
    """
    done = 0
    with EncodedWriter(folder, preprocessor, labels) as writer:
        for split, read in (("train", division.training), ("validation", division.held_out)):
            for size in writer.write(replace(record, split=split) for record in read()):
                done += size
                report(done, {})
    return EncodedCorpus.open(folder)


def refuse_iterators(texts: Any) -> None:
    """Raises DataError for an iterator, which can be read only once."""
    if isinstance(texts, Iterator):
        raise DataError(
            f"texts are read several times, but a {type(texts).__name__} can be read only once. Convert it to a list."
        )


def _held_out_test(records: Iterator[Record], share: float) -> Callable[[Record], bool]:
    """The test for held-out texts: the hash is in the lowest `share` of all hashes, or the lowest of these texts."""
    if not 0 < share < 1:
        raise ConfigError(
            f"`held_out` must be above 0 and below 1, got {share}. To train on all texts, pass `validation`."
        )
    lowest, highest = _POINTS, -1
    for record in records:
        point = _point(record.text)
        lowest, highest = min(lowest, point), max(highest, point)
    if lowest >= highest:
        raise DataError(
            f"at least two distinct nonempty texts are needed, got {'none' if highest < 0 else 'one'}: one is held out "
            "for evaluation. Add texts, or pass other ones as `validation`."
        )

    def is_held_out(record: Record) -> bool:
        """Never true for the highest hash, so that a text remains to train on."""
        point = _point(record.text)
        return point == lowest or (point < share * _POINTS and point != highest)

    return is_held_out
