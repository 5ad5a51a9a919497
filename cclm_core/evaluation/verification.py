"""Metrics of authorship verification, as in the shared tasks of PAN."""

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.errors import DataError

Floats = npt.NDArray[np.float64]


def verification_metrics(probabilities: npt.ArrayLike, truths: npt.ArrayLike) -> dict[str, float]:
    """AUC, c@1, F0.5u and the complement of the Brier score, each from 0 to 1; higher is better.

    A probability of exactly 0.5 means that the question is left open.

    Args:
        probabilities: (P,) that both texts of a pair have the same author.
        truths: (P,) bool, whether they have.

    Raises:
        DataError: other shapes, or only one of the two answers occurs.

    Source: PAN at CLEF 2020 (Kestemont et al. 2020); c@1, Peñas and Rodrigo 2011; F0.5u, Bevendorff et al. 2019.

    >>> verification_metrics([0.9, 0.8, 0.3, 0.5], [True, True, False, False])
    {'auc': 1.0, 'c_at_1': 0.9375, 'f_05_u': 0.9091, 'brier': 0.9025}
    """
    scores, gold = np.asarray(probabilities, dtype=np.float64), np.asarray(truths, dtype=bool)
    if scores.shape != gold.shape or scores.ndim != 1:
        raise DataError(f"probabilities and truths must have one shape (P,), got {scores.shape} and {gold.shape}.")
    if gold.all() or not gold.any():
        raise DataError("verification needs pairs of both kinds, by one author and by two.")
    number, is_open, answers = len(gold), scores == 0.5, scores > 0.5
    correct = int((answers == gold)[~is_open].sum())
    true_positives = int((answers & gold & ~is_open).sum())
    false_positives = int((answers & ~gold & ~is_open).sum())
    false_negatives = int((~answers & gold & ~is_open).sum())
    denominator = 1.25 * true_positives + 0.25 * (false_negatives + int(is_open.sum())) + false_positives
    values = {
        "auc": _auc(scores, gold),
        "c_at_1": (correct + correct * int(is_open.sum()) / number) / number,
        "f_05_u": 1.25 * true_positives / denominator if denominator else 0.0,
        "brier": 1 - float(np.mean((scores - gold) ** 2)),
    }
    return {name: round(value, 4) for name, value in values.items()}


def _auc(scores: Floats, gold: npt.NDArray[np.bool_]) -> float:
    """The probability that a pair by one author scores higher than a pair by two; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(gold.sum()), int((~gold).sum())
    return float((ranks[gold].sum() - positives * (positives + 1) / 2) / (positives * negatives))
