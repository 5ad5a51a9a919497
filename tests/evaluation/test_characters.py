import numpy as np

from cclm_core.evaluation.characters import mask_windows, masked_bits, masked_features, mean_bits
from cclm_core.evaluation.config import CharactersProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.text.vocabulary import END, MASK, PAD, Preprocessor
from tests.evaluation.stand_ins import Stand

PREPROCESSOR = Preprocessor(alphabet="abcdefgh")
CONFIG = CharactersProbe(window=64)


def windows_of(characters, rows):
    return PREPROCESSOR.encode("".join(characters)).astype(np.int64)[: rows * 64].reshape(rows, 64)


def bits_of(train, test, **stand):
    masked = [
        mask_windows(ids, CONFIG, 1, name) for ids, name in ((windows_of(train, 180), "a"), (windows_of(test, 30), "b"))
    ]
    reader = Reader(Stand(PREPROCESSOR, **stand), 1024, 64)
    features = masked_features(reader, masked[0]), masked_features(reader, masked[1])
    return masked_bits(*masked, features, PREPROCESSOR.num_ids, CONFIG, 1)


def test_what_the_neighbours_tell_is_read_off_and_what_they_do_not_tell_is_not():
    chance = list("abcdefgh")
    random = np.random.default_rng(0).choice(chance, 180 * 64), np.random.default_rng(1).choice(chance, 180 * 64)
    periodic = "abcdefgh" * 1440
    assert mean_bits(bits_of(periodic, periodic)) < 1
    assert 2.9 < mean_bits(bits_of(*random)) < 3.5
    assert 2.9 < mean_bits(bits_of(periodic, periodic, blank=True)) < 3.1


def test_a_character_never_seen_in_training_costs_finite_bits():
    bits = bits_of("abcdefg" * 1680, "hhhh" * 600)
    assert np.isfinite(bits).all() and bits.min() > 10


def test_masks_depend_on_seed_and_split_alone_and_spare_special_ids():
    ids = windows_of("abcdefgh" * 480, 30)
    ids[:, 10], ids[:, 50:] = END, PAD
    one, two, other = (
        mask_windows(ids, CONFIG, 1, "x"),
        mask_windows(ids, CONFIG, 1, "x"),
        mask_windows(ids, CONFIG, 2, "x"),
    )
    assert np.array_equal(one.places, two.places) and not np.array_equal(one.places, other.places)
    assert one.ids.min() > END and (one.shown.ravel()[one.places] == MASK).all()
    assert np.array_equal(one.ids, ids.ravel()[one.places])


def test_neighbours_are_as_shown():
    ids = windows_of("abcdefgh" * 480, 30)
    masked = mask_windows(ids, CONFIG, 1, "x")
    rows, columns = masked.places // 64, masked.places % 64
    for number in range(0, len(rows), 17):
        row, column = rows[number], columns[number]
        assert masked.left[number] == (masked.shown[row, column - 1] if column else MASK)
        assert masked.right[number] == (masked.shown[row, column + 1] if column < 63 else MASK)
