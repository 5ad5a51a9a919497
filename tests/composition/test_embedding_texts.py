"""`embed` and `embed_stream`: the same features, in bounded memory, and clear errors."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.long_texts import TextReader
from cclm_core.runtime.errors import CclmError, ConfigError, DataError
from tests.composition.nests import pair
from tests.encoders.shapes import LETTERS, SMALL, embedder

TEXTS = ["cab", "", "a bad cab" * 40, *(LETTERS[number:] for number in range(9))]


def test_a_stream_gives_what_embed_gives() -> None:
    model = pair(embedder(SMALL)).eval()
    whole = model.embed(TEXTS, window=32, batch_characters=64)
    streamed = list(model.embed_stream(iter(TEXTS), window=32, batch_characters=64))
    assert [features.shape for features in streamed] == [(len(text), model.width) for text in TEXTS]
    for mine, theirs in zip(streamed, whole, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_stream_reads_an_endless_source_as_it_is_used() -> None:
    taken = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield "a bad cab"

    model = pair(embedder(SMALL)).eval()
    stream = model.embed_stream(endless(), batch_characters=18)
    assert next(stream).shape == (9, model.width) and len(taken) <= 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "cab"}, "must be an iterable of strings, got one str"),
        ({"texts": ["cab", None]}, "got NoneType at index 1"),
        ({"texts": ["cab"], "window": 1}, "`window` must be at least 2, got 1"),
        ({"texts": ["cab"], "window": 0}, "`window` must be at least 2, got 0"),
        ({"texts": ["cab"], "batch_characters": 0}, "`batch_characters` must be at least 1, got 0"),
    ],
)
def test_what_is_no_text_and_no_size_is_refused(arguments: dict[str, Any], message: str) -> None:
    model: ComposedModel = pair(embedder(SMALL))
    with pytest.raises((DataError, ConfigError), match=message):
        model.embed(**arguments)
    with pytest.raises((DataError, ConfigError), match=message):
        list(model.embed_stream(**arguments))


def test_the_overlap_of_a_reader_is_below_its_window() -> None:
    for overlap in (-1, 4):
        with pytest.raises(CclmError, match="`overlap` must be at least 0 and below the window of 4"):
            TextReader(embedder(SMALL), window=4, overlap=overlap)
