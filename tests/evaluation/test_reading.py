"""Reading texts: independent of the batches, and long texts in the same windows as `ComposedModel.embed`."""

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.evaluation import EvaluationConfig
from cclm_core.evaluation.reading import Reader
from cclm_core.text.vocabulary import Preprocessor
from tests.evaluation.fakes import FakeComposition

PREPROCESSOR = Preprocessor(alphabet="abcdefgh ")
TEXTS = [PREPROCESSOR.encode(text) for text in ("", "a", "abc abc", "", "h" * 50, "feed a bad cab")]


def read_texts(reader: Reader) -> list[Tensor | None]:
    """The features (L, W) of each of `TEXTS`; None for an empty text."""
    pieces: dict[int, list[tuple[int, Tensor]]] = {}
    for text, start, features in reader.pieces(TEXTS):
        pieces.setdefault(text, []).append((start, features))
    return [
        torch.cat([features for _, features in sorted(pieces[text], key=lambda piece: piece[0])])
        if text in pieces
        else None
        for text in range(len(TEXTS))
    ]


@pytest.mark.parametrize("batch_characters", [1, 20, 10_000])
def test_features_do_not_depend_on_the_batch_size(batch_characters: int) -> None:
    composed = FakeComposition(PREPROCESSOR)
    for ids, features in zip(TEXTS, read_texts(Reader(composed, batch_characters, 100)), strict=True):
        if not len(ids):
            assert features is None
            continue
        with torch.no_grad():
            alone = composed(torch.from_numpy(ids.astype(np.int64))[None])[0]
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-5)


def test_windows_cover_long_texts_completely() -> None:
    features = read_texts(Reader(FakeComposition(PREPROCESSOR), 64, 8))
    assert [0 if rows is None else len(rows) for rows in features] == [len(ids) for ids in TEXTS]


def test_characters_far_from_window_edges_get_the_features_of_the_whole_text() -> None:
    """The fake composition sees three characters on each side, and windows of 20 overlap by 10."""
    ids = PREPROCESSOR.encode("a bad cab had a big egg, " * 3)
    whole, windows = (torch.zeros(len(ids), 96) for _ in range(2))
    for rows, window in ((whole, 1000), (windows, 20)):
        for _, start, features in Reader(FakeComposition(PREPROCESSOR), 4096, window).pieces([ids]):
            rows[start : start + len(features)] = features
    same = (whole - windows).abs().amax(dim=1) < 1e-5
    assert 0.3 < same.float().mean() < 1 and same[:7].all()


def test_evaluation_and_embed_use_the_same_window() -> None:
    window = inspect.signature(ComposedModel.embed).parameters["window"].default
    assert EvaluationConfig().window == window


def test_batches_are_bounded_and_characters_are_counted() -> None:
    sizes: list[int] = []

    class Recorder(FakeComposition):
        """Records the size of every batch."""

        def forward(self, ids: Tensor) -> Tensor:
            sizes.append(ids.numel())
            return super().forward(ids)

    reader = Reader(Recorder(PREPROCESSOR), 30, 25)
    read_texts(reader)
    assert max(sizes) <= 30
    assert reader.characters > sum(len(ids) for ids in TEXTS) and reader.seconds > 0  # overlaps count twice
