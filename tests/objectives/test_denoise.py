"""Denoising: the target edits restore the clean text."""

import numpy as np
import pytest

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.denoise import NOTHING, UNKNOWN, target_edits
from cclm_core.objectives.noising import NoisedBatch, Noiser
from cclm_core.text.vocabulary import Preprocessor

TEXTS = ["the quick brown fox jumps over", "a lazy dog, and the cat sleeps", "", "x", "modern house"]
PREPROCESSOR = Preprocessor().fit(TEXTS)
WIDTH = 48


def batch() -> WindowBatch:
    ids = np.zeros((len(TEXTS), WIDTH), dtype=np.int64)
    for row, text in enumerate(TEXTS):
        ids[row, : len(text)] = PREPROCESSOR.encode(text)
    return WindowBatch(ids, np.zeros_like(ids, dtype=np.uint8), np.array(list(map(len, TEXTS))))


def corrected(noised: NoisedBatch, here: np.ndarray, after: np.ndarray) -> list[str]:
    """The texts after all edits."""
    texts = []
    for row in range(len(noised.ids)):
        ids = []
        for column in np.flatnonzero(noised.ids[row]):
            ids += [id_ for id_ in (here[row, column], after[row, column]) if id_ not in (NOTHING, UNKNOWN)]
        texts.append(PREPROCESSOR.decode(ids))
    return texts


@pytest.mark.parametrize("kind", sorted(set(CATALOGUE) - {"misspelling", "drop", "missing_space", "ocr", "phonetic"}))
def test_the_target_edits_restore_the_text(kind: str) -> None:
    noiser = Noiser(NoiseRecipe(rate=0.3, kinds=[kind]), PREPROCESSOR)
    for seed in range(20):
        clean = batch()
        noised = noiser(clean, np.random.default_rng(seed))
        assert corrected(noised, *target_edits(clean.ids, noised)) == TEXTS


def test_a_dropped_character_is_missing_after_its_neighbor() -> None:
    clean = batch()
    source = np.full_like(clean.ids, -1)
    source[0, :5] = [0, 1, 3, 4, 7]  # "the quick": without "e" and "ui"
    ids = np.where(source >= 0, clean.ids[np.arange(len(TEXTS))[:, None], np.maximum(source, 0)], 0)
    here, after = target_edits(clean.ids, NoisedBatch(ids, source, clean.tags))
    assert PREPROCESSOR.decode(here[0, :5]) == "th qc"
    assert PREPROCESSOR.decode(after[0, [1, 3]]) == "eu"  # "u" is the first of two missing letters
    assert after[0, [0, 2]].tolist() == [NOTHING, NOTHING]
    assert after[0, 4] == UNKNOWN


def test_swapped_neighbors_are_swapped_back() -> None:
    clean = batch()
    noised = Noiser(NoiseRecipe(rate=1, kinds=["swap"]), PREPROCESSOR)(clean, np.random.default_rng(1))
    here, after = target_edits(clean.ids, noised)
    assert PREPROCESSOR.decode(here[4]) == "modern house"
    assert set(after[4, : len("modern house")].tolist()) <= {NOTHING, UNKNOWN}
