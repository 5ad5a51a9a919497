"""Denoising: the edits that are wanted turn noised windows back into clean ones."""

import numpy as np
import pytest

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.denoise import NOTHING, UNKNOWN, wanted_edits
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


def corrected(noised: NoisedBatch, here: np.ndarray, behind: np.ndarray) -> list[str]:
    texts = []
    for row in range(len(noised.ids)):
        ids = []
        for place in np.flatnonzero(noised.ids[row]):
            ids += [one for one in (here[row, place], behind[row, place]) if one not in (NOTHING, UNKNOWN)]
        texts.append(PREPROCESSOR.decode(ids))
    return texts


@pytest.mark.parametrize("kind", sorted(set(CATALOGUE) - {"misspelling", "drop", "missing_space", "ocr", "phonetic"}))
def test_the_wanted_edits_restore_the_text(kind: str) -> None:
    noiser = Noiser(NoiseRecipe(rate=0.3, kinds=[kind]), PREPROCESSOR)
    for seed in range(20):
        clean = batch()
        noised = noiser(clean, np.random.default_rng(seed))
        assert corrected(noised, *wanted_edits(clean.ids, noised)) == TEXTS


def test_what_was_dropped_is_missing_behind_its_neighbour() -> None:
    clean = batch()
    source = np.full_like(clean.ids, -1)
    source[0, :5] = [0, 1, 3, 4, 7]  # "the quick": without "e" and "ui"
    ids = np.where(source >= 0, clean.ids[np.arange(len(TEXTS))[:, None], np.maximum(source, 0)], 0)
    here, behind = wanted_edits(clean.ids, NoisedBatch(ids, source, clean.tags))
    assert PREPROCESSOR.decode(here[0, :5]) == "th qc"
    assert PREPROCESSOR.decode(behind[0, [1, 3]]) == "eu"  # of several missing letters the first
    assert behind[0, [0, 2]].tolist() == [NOTHING, NOTHING]
    assert behind[0, 4] == UNKNOWN


def test_neighbours_that_changed_places_are_wanted_in_order() -> None:
    clean = batch()
    noised = Noiser(NoiseRecipe(rate=1, kinds=["swap"]), PREPROCESSOR)(clean, np.random.default_rng(1))
    here, behind = wanted_edits(clean.ids, noised)
    assert PREPROCESSOR.decode(here[4]) == "modern house"
    assert set(behind[4, : len("modern house")].tolist()) <= {NOTHING, UNKNOWN}
