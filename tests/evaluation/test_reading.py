"""Reading texts in batches: every text whole, whatever the batches; long texts as they are served."""

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.evaluation import EvaluationConfig
from cclm_core.evaluation.reading import Reader
from cclm_core.text.vocabulary import Preprocessor
from tests.evaluation.stand_ins import Stand

PREPROCESSOR = Preprocessor(alphabet="abcdefgh ")
TEXTS = [PREPROCESSOR.encode(text) for text in ("", "a", "abc abc", "", "h" * 50, "feed a bad cab")]


def joined(reader: Reader) -> list[Tensor | None]:
    parts: dict[int, list[tuple[int, Tensor]]] = {}
    for text, start, features in reader.pieces(TEXTS):
        parts.setdefault(text, []).append((start, features))
    return [
        torch.cat([features for _, features in sorted(parts[text], key=lambda part: part[0])])
        if text in parts
        else None
        for text in range(len(TEXTS))
    ]


@pytest.mark.parametrize("batch_characters", [1, 20, 10_000])
def test_every_text_is_read_whole_whatever_the_batches(batch_characters: int) -> None:
    stand = Stand(PREPROCESSOR)
    for ids, features in zip(TEXTS, joined(Reader(stand, batch_characters, 100)), strict=True):
        if not len(ids):
            assert features is None
            continue
        with torch.no_grad():
            alone = stand(torch.from_numpy(ids.astype(np.int64))[None])[0]
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-5)


def test_a_long_text_is_read_in_windows_and_nothing_is_lost() -> None:
    features = joined(Reader(Stand(PREPROCESSOR), 64, 8))
    assert [0 if read is None else len(read) for read in features] == [len(ids) for ids in TEXTS]


def test_characters_far_from_an_edge_of_every_window_are_read_as_if_the_text_were_whole() -> None:
    """The stand-in sees three characters to each side, windows of 20 share 10: the middle of each sees enough."""
    ids = PREPROCESSOR.encode("a bad cab had a big egg, " * 3)
    whole, windows = (torch.zeros(len(ids), 96) for _ in range(2))
    for rows, window in ((whole, 1000), (windows, 20)):
        for _, start, features in Reader(Stand(PREPROCESSOR), 4096, window).pieces([ids]):
            rows[start : start + len(features)] = features
    same = (whole - windows).abs().amax(dim=1) < 1e-5
    assert 0.3 < same.float().mean() < 1 and same[:7].all()


def test_evaluation_reads_windows_of_the_size_that_serving_reads() -> None:
    served = inspect.signature(ComposedModel.embed).parameters["window"].default
    assert EvaluationConfig().window == served


def test_batches_keep_their_bound_and_what_was_read_is_counted() -> None:
    sizes: list[int] = []

    class Watched(Stand):
        def forward(self, ids: Tensor) -> Tensor:
            sizes.append(ids.numel())
            return super().forward(ids)

    reader = Reader(Watched(PREPROCESSOR), 30, 25)
    joined(reader)
    assert max(sizes) <= 30
    assert reader.characters > sum(len(ids) for ids in TEXTS) and reader.seconds > 0  # overlaps are read twice
