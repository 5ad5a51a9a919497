"""Parts of the windows of a batch: the parts of documents, complete documents and sentences, and rows of such parts."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import WindowBatch
from cclm_core.text.vocabulary import END, FIRST_CHARACTER, PAD, Preprocessor

Positions = npt.NDArray[np.int64]

_STOPS, _CLOSING = ".!?\u2026\u3002\uff01\uff1f", "\"'\u201d\u2019)]\u00bb"


class DocumentParts(NamedTuple):
    """The parts of documents in a batch, each (N,) int64: the row, the first column, and the column after the last."""

    rows: Positions
    starts: Positions
    stops: Positions


class Span(NamedTuple):
    """Columns of one row of a batch, `stop` excluded."""

    row: int
    start: int
    stop: int


def document_parts(ids: Positions) -> DocumentParts:
    """Finds the parts of documents in the windows `ids` (B, L): runs between ends of documents."""
    is_text = np.pad((ids != PAD) & (ids != END), ((0, 0), (1, 1)))
    rows, starts = np.nonzero(is_text[:, 1:] & ~is_text[:, :-1])
    stops = np.nonzero(is_text[:, :-1] & ~is_text[:, 1:])[1]
    return DocumentParts(rows, starts, stops)


def complete_texts(ids: Positions, preprocessor: Preprocessor, documents: bool) -> list[Span]:
    """Finds the texts that lie completely in a window, so that they do not depend on where the window starts.

    A document is complete if an END precedes and follows it. A sentence ends after a line break, or after one of
    . ! ? with closing quotes and a space; the first and the last sentence of a window are complete only next to an END.

    Args:
        ids: (B, L), the windows.
        preprocessor: the vocabulary.
        documents: whether to find documents; if not, sentences.
    """
    table = _Marks(preprocessor)
    spans = []
    for row, start, stop in zip(*(part.tolist() for part in document_parts(ids)), strict=True):
        cuts: list[int] = [] if documents else (table.sentence_starts(ids[row, start:stop]) + start).tolist()
        bounds = [start, *cuts, stop]
        complete = [start > 0, *[True] * len(cuts), stop < ids.shape[1] and ids[row, stop] == END]
        for first, last, begins, ends in zip(bounds, bounds[1:], complete, complete[1:], strict=False):
            if begins and ends:
                spans.append(table.stripped(ids, Span(row, first, last)))
    return [span for span in spans if span.stop > span.start]


def rows_of(ids: Positions, spans: list[Span]) -> WindowBatch:
    """Copies spans of `ids` (B, L) to rows (N, M), padded to the longest, rounded up to a multiple of 32.

    Lengths are rounded because every new shape costs memory on a CPU.
    """
    lengths = np.array([span.stop - span.start for span in spans], dtype=np.int64)
    rows = np.full((len(spans), -(-int(lengths.max(initial=0)) // 32) * 32), PAD, dtype=np.int64)
    for row, span, length in zip(rows, spans, lengths.tolist(), strict=True):
        row[:length] = ids[span.row, span.start : span.stop]
    return WindowBatch(rows, np.zeros(rows.shape, dtype=np.uint8), lengths)


class _Marks:
    """Which ids end sentences, follow their ends, or are spaces."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        def table(matches: str | None) -> npt.NDArray[np.bool_]:
            marks = [character.isspace() if matches is None else character in matches for character in alphabet]
            return np.concatenate([np.zeros(FIRST_CHARACTER, dtype=bool), np.array(marks, dtype=bool)])

        alphabet = preprocessor.alphabet
        self.space, self.line, self.stop, self.closing = table(None), table("\n"), table(_STOPS), table(_CLOSING)

    def sentence_starts(self, ids: Positions) -> Positions:
        """The positions (N,) in one text (L,) where a sentence starts after another one."""
        space, closing = self.space[ids], self.closing[ids]
        ended = self.stop[ids]
        for _ in range(2):  # closing quotes and brackets
            ended[1:] |= closing[1:] & ended[:-1]
        after = np.flatnonzero(self.line[ids[:-1]] | (ended[:-1] & space[1:])) + 1
        return after[after < len(ids)]

    def stripped(self, ids: Positions, span: Span) -> Span:
        """The span without spaces at its ends."""
        text = np.flatnonzero(~self.space[ids[span.row, span.start : span.stop]])
        if not len(text):
            return Span(span.row, span.start, span.start)
        return Span(span.row, span.start + int(text[0]), span.start + int(text[-1]) + 1)
