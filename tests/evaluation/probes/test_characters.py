"""The probe of characters: it learns what the neighbors reveal, and where masks are depends on the seed alone."""

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
from tests.evaluation.stand_ins import Stand, encode, records

PREPROCESSOR = Preprocessor(alphabet="abcdefgh")
CONFIG = CharactersProbeConfig(window=64)


def windows_of(characters: Iterable[str], rows: int) -> npt.NDArray[np.int64]:
    return PREPROCESSOR.encode("".join(characters)).astype(np.int64)[: rows * 64].reshape(rows, 64)


def bits_of(train: Iterable[str], test: Iterable[str], blank: bool = False) -> Floats:
    fitted, measured = (
        mask_windows(ids, CONFIG, 1, name) for ids, name in ((windows_of(train, 180), "a"), (windows_of(test, 30), "b"))
    )
    reader = Reader(Stand(PREPROCESSOR, blank=blank), 1024, 64)
    probe = fit_masked(fitted, masked_features(reader, fitted), CONFIG, 1)
    return probe.bits(measured, masked_features(reader, measured), PREPROCESSOR.num_ids, CONFIG.smoothing)


def test_what_the_neighbors_reveal_is_learned_and_what_they_do_not_reveal_is_not() -> None:
    chance = list("abcdefgh")
    random = np.random.default_rng(0).choice(chance, 180 * 64), np.random.default_rng(1).choice(chance, 180 * 64)
    periodic = "abcdefgh" * 1440
    assert bits_of(periodic, periodic).mean() < 1
    assert 2.9 < bits_of(*random).mean() < 3.5
    assert 2.9 < bits_of(periodic, periodic, blank=True).mean() < 3.1


def test_a_character_never_seen_in_training_costs_finite_bits() -> None:
    bits = bits_of("abcdefg" * 1680, "hhhh" * 600)
    assert np.isfinite(bits).all() and bits.min() > 10


def test_masks_depend_on_seed_and_split_alone_and_spare_special_ids() -> None:
    ids = windows_of("abcdefgh" * 480, 30)
    ids[:, 10], ids[:, 50:] = END, PAD
    one, two, other = (
        mask_windows(ids, CONFIG, 1, "x"),
        mask_windows(ids, CONFIG, 1, "x"),
        mask_windows(ids, CONFIG, 2, "x"),
    )
    assert np.array_equal(one.positions, two.positions) and not np.array_equal(one.positions, other.positions)
    assert one.ids.min() > END and (one.shown.ravel()[one.positions] == MASK).all()
    assert np.array_equal(one.ids, ids.ravel()[one.positions])


def test_neighbors_are_as_shown() -> None:
    ids = windows_of("abcdefgh" * 480, 30)
    masked = mask_windows(ids, CONFIG, 1, "x")
    rows, columns = masked.positions // 64, masked.positions % 64
    for number in range(0, len(rows), 17):
        row, column = rows[number], columns[number]
        assert masked.left[number] == (masked.shown[row, column - 1] if column else MASK)
        assert masked.right[number] == (masked.shown[row, column + 1] if column < 63 else MASK)


def test_every_masked_character_belongs_to_the_document_that_holds_it(tmp_path: Path) -> None:
    split = encode(tmp_path, records()).split("train")
    windows = Windows(split, 64)
    masked = mask_windows(windows.fixed(50, 3).ids, CONFIG, 1, "x")
    numbers = _documents(masked, windows.fixed_order(50, 3) * 64, split.documents["length"].to_numpy(np.int64))
    assert numbers.max() + 1 == len(set(numbers.tolist()))
    starts = split.documents["start"].to_numpy(np.int64)
    position = (windows.fixed_order(50, 3) * 64)[masked.positions // 64] + masked.positions % 64
    assert np.array_equal(split.ids[position], masked.ids)
    expected = np.searchsorted(starts, position, side="right") - 1
    assert np.array_equal(np.unique(expected, return_inverse=True)[1], numbers)
