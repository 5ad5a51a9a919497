"""Weights for sums of log-probabilities: fitted on validation texts, constant or by the share of unknown n-grams."""

from typing import Any

import numpy as np


def texts(number: int, seed: int, noise: float) -> Any:
    """Two parts: the first is right on texts without unknown n-grams, the second on the others."""
    import fusing

    generator = np.random.default_rng(seed)
    gold = generator.integers(3, size=number)
    is_noisy = generator.random(number) < noise
    scores = generator.normal(size=(2, number, 3))
    for part, is_good in enumerate((~is_noisy, is_noisy)):
        scores[part, np.arange(number), gold] += np.where(is_good, 4, 0)
    normalized = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
    return fusing.Texts(normalized, gold, np.where(is_noisy, 0.5, 0.0))


def test_weights_by_text_use_the_part_that_fits_the_text() -> None:
    import fusing

    fitted = [fusing.fit([texts(500, 1, 0.0), texts(500, 2, 0.5)], by_text) for by_text in (False, True)]
    test = texts(2000, 3, 0.5)
    constant, by_text = (fusing.accuracy(test, weights.predict(test)) for weights in fitted)
    assert by_text > constant + 0.02
    assert fitted[0].level[0] > fitted[0].level[1], "the first part is right more often"
    assert fitted[1].slope[0] < 0 < fitted[1].slope[1]


def test_each_way_is_compared_with_the_best_part_and_the_encoder() -> None:
    import fusing

    sets = [
        fusing.Scored(
            name, 1, {"0": texts(300, 1, 0.1), "0.05": texts(300, 1, 0.1), "0.1": texts(300, 2, 0.3),
                      "0.2": texts(300, 3, 0.4)}, validation
        )
        for name, validation in (("a", {"0": texts(200, 4, 0.1)}), ("b", {"0": texts(200, 5, 0.2)}), ("c, few", {}))
    ]  # fmt: skip
    rows = {row.name: row for row in fusing.rows(sets, ["network", "minilm"])}
    assert len(rows) == 4 * (6 + 6 + 4)
    by_text = rows["a, 20% noise, by text"]
    assert by_text.peer.startswith("best part (network) ") and "; minilm " in by_text.peer and "1 seed;" in by_text.peer
    assert by_text.value > rows["a, 20% noise, network"].value + 10
    assert rows["c, few, 20% noise, transferred"].value > rows["c, few, 20% noise, network"].value + 10
    assert "c, few, 20% noise, weights" not in rows


def test_the_share_of_unknown_ngrams() -> None:
    import fusing

    known = fusing.ngrams_of("where is the bank")
    assert fusing.unknown_share("the bank is where", known) == 0
    assert 0 < fusing.unknown_share("the bnak is where", known) < 1
    assert fusing.unknown_share("", known) == 0
