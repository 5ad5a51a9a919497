"""The characters probe: it learns only from informative neighbors, and its masks depend only on the seed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import Windows
from cclm_core.evaluation.metrics import Floats
from cclm_core.evaluation.probes.characters import (
    CharactersProbeConfig,
    _documents,
    fit_masked,
    mask_windows,
    masked_features,
)
from cclm_core.evaluation.reading import Reader
from cclm_core.text.vocabulary import END, MASK, PAD, Preprocessor
from tests.evaluation.fakes import FakeComposition, encode, make_records

PREPROCESSOR = Preprocessor(alphabet="abcdefgh")
CONFIG = CharactersProbeConfig(window=64)


def windows_of(characters: Iterable[str], rows: int) -> npt.NDArray[np.int64]:
    return PREPROCESSOR.encode("".join(characters)).astype(np.int64)[: rows * 64].reshape(rows, 64)


def bits_of(train: Iterable[str], test: Iterable[str], blank: bool = False) -> Floats:
    train_masked, test_masked = (
        mask_windows(ids, CONFIG, 1, name) for ids, name in ((windows_of(train, 180), "a"), (windows_of(test, 30), "b"))
    )
    reader = Reader(FakeComposition(PREPROCESSOR, blank=blank), 1024, 64)
    probe = fit_masked(train_masked, masked_features(reader, train_masked), CONFIG, 1)
    return probe.bits(test_masked, masked_features(reader, test_masked), PREPROCESSOR.num_ids, CONFIG.smoothing)


def test_periodic_text_is_predicted_and_random_text_is_not() -> None:
    letters = list("abcdefgh")
    random = np.random.default_rng(0).choice(letters, 180 * 64), np.random.default_rng(1).choice(letters, 180 * 64)
    periodic = "abcdefgh" * 1440
    assert bits_of(periodic, periodic).mean() < 1
    assert 2.9 < bits_of(*random).mean() < 3.5
    assert 2.9 < bits_of(periodic, periodic, blank=True).mean() < 3.1


def test_unseen_characters_have_finite_bits() -> None:
    bits = bits_of("abcdefg" * 1680, "hhhh" * 600)
    assert np.isfinite(bits).all() and bits.min() > 10


def test_masks_depend_only_on_seed_and_split_and_leave_out_special_ids() -> None:
    ids = windows_of("abcdefgh" * 480, 30)
    ids[:, 10], ids[:, 50:] = END, PAD
    masked, again, reseeded = (mask_windows(ids, CONFIG, seed, "x") for seed in (1, 1, 2))
    assert np.array_equal(masked.positions, again.positions)
    assert not np.array_equal(masked.positions, reseeded.positions)
    assert masked.ids.min() > END and (masked.shown.ravel()[masked.positions] == MASK).all()
    assert np.array_equal(masked.ids, ids.ravel()[masked.positions])


def test_neighbors_are_taken_from_the_masked_window() -> None:
    ids = windows_of("abcdefgh" * 480, 30)
    masked = mask_windows(ids, CONFIG, 1, "x")
    rows, columns = masked.positions // 64, masked.positions % 64
    for number in range(0, len(rows), 17):
        row, column = rows[number], columns[number]
        assert masked.left[number] == (masked.shown[row, column - 1] if column else MASK)
        assert masked.right[number] == (masked.shown[row, column + 1] if column < 63 else MASK)


def test_every_masked_character_is_assigned_to_its_document(tmp_path: Path) -> None:
    split = encode(tmp_path, make_records()).split("train")
    windows = Windows(split, 64)
    masked = mask_windows(windows.fixed(50, 3).ids, CONFIG, 1, "x")
    numbers = _documents(masked, windows.fixed_order(50, 3) * 64, split.documents["length"].to_numpy(np.int64))
    assert numbers.max() + 1 == len(set(numbers.tolist()))
    starts = split.documents["start"].to_numpy(np.int64)
    position = (windows.fixed_order(50, 3) * 64)[masked.positions // 64] + masked.positions % 64
    assert np.array_equal(split.ids[position], masked.ids)
    expected = np.searchsorted(starts, position, side="right") - 1
    assert np.array_equal(np.unique(expected, return_inverse=True)[1], numbers)
