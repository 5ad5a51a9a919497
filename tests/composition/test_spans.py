"""Span getters: they cover the text, overlaps are averaged, and every text gets one row per id."""

import numpy as np
import pytest
import torch

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.spans import Span, StridedConfig, span_getter, windows_of
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CclmError
from tests.composition.nests import pair
from tests.encoders.shapes import SMALL, embedder

TEXTS = ["a bad cab. a dab! cab", "", "abc" * 40, "no end", "one line\nand more.  \n\nthe last"]


@pytest.fixture(scope="module")
def model() -> ComposedModel:
    return pair(embedder(SMALL)).eval()


def alone(model: ComposedModel, text: str) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(model.preprocessor.encode(text)).long()[None])[0].numpy()


def test_the_whole_text_is_read_at_once(model: ComposedModel) -> None:
    for text, rows in zip(TEXTS, model.embed(TEXTS, window=8, spans="whole"), strict=True):
        np.testing.assert_allclose(rows, alone(model, text), atol=1e-5)


def test_strided_spans_average_overlaps(model: ComposedModel) -> None:
    text = TEXTS[2]
    (rows,) = model.embed([text], spans={"spans": "strided", "window": 60, "overlap": 20})
    first, second, third = (alone(model, text[start : start + 60]) for start in (0, 40, 60))
    np.testing.assert_allclose(rows[:40], first[:40], atol=1e-5)
    np.testing.assert_allclose(rows[40:60], (first[40:] + second[:20]) / 2, atol=1e-5)
    np.testing.assert_allclose(rows[100:], third[40:], atol=1e-5)


def test_a_sentence_does_not_see_the_others(model: ComposedModel) -> None:
    rows = model.embed(TEXTS, spans="sentences", batch_characters=16)
    assert [len(row) for row in rows] == [len(text) for text in TEXTS]
    np.testing.assert_allclose(rows[0][11:18], alone(model, "a dab! "), atol=1e-5)
    streamed = list(model.embed_stream(TEXTS, spans="sentences", batch_characters=16))
    for left, right in zip(rows, streamed, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Yes. No!  Why", ["Yes. ", "No!  ", "Why"]),
        ('He said "no." Then', ['He said "no." ', "Then"]),
        ("3.5 is no end\n\nnew line", ["3.5 is no end\n\n", "new line"]),
        ("\u4f60\u597d\u3002\u518d\u89c1", ["\u4f60\u597d\u3002", "\u518d\u89c1"]),
        ("", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    getter = span_getter("sentences")
    assert getter is not None
    assert [text[start:stop] for start, stop in getter.spans_of(text)] == parts


def test_a_long_text_is_read_in_bounded_memory(model: ComposedModel) -> None:
    sizes: list[int] = []
    handle = model.base.register_forward_pre_hook(lambda _module, arguments: sizes.append(arguments[0].numel()))
    (rows,) = model.embed(["a bad cab. " * 2000], spans={"spans": "strided", "window": 64, "overlap": 16})
    handle.remove()
    assert len(rows) == 22000 and max(sizes) <= 4096


class Words(Config):
    """A getter of a user: it leaves out what `skipped` says."""

    skipped: int = 0

    def spans_of(self, text: str) -> list[Span]:
        return [(0, 4), (4 + self.skipped, len(text))]


def test_a_getter_of_the_user_must_cover_the_text() -> None:
    offsets = np.arange(9)
    assert [window.start for window in windows_of(Words(), "a bad cab", offsets, 0)] == [0, 4]
    with pytest.raises(CclmError, match=r"must cover the text of 9 characters without gaps.* from Words"):
        windows_of(Words(skipped=1), "a bad cab", offsets, 0)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ("sentence", "did you mean 'sentences'"),
        ({"spans": "strided", "overlap": 9, "window": 9}, "overlap must be below the window of 9, got 9"),
        ({"spans": "strided", "windw": 9}, r"spans\.windw is not a known key; did you mean 'window'"),
        (7, "spans must be a name, a mapping or a configuration, got 7"),
    ],
)
def test_a_wrong_getter_is_refused(model: ComposedModel, spans: object, message: str) -> None:
    with pytest.raises(CclmError, match=message):
        model.embed_stream(["cab"], spans=spans)
    assert StridedConfig().window == 2048
