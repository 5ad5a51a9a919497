"""Similarities of pairs of texts: equal to counting by hand, and independent of case, order and padding."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from cclm_core.finetuning.encoding import padded
from cclm_core.heads.similarity import NUM_SIMILARITIES, SIZES, PairSimilarity
from tests.finetuning.tasks import preprocessor

PAIRS = [
    ("where is my card", "my card is lost"),
    ("a parcel for you", "no money came"),
    ("banana", "bandana"),
    ("x", ""),
    ("", ""),
    ("refund", "refund"),
]


def ids_of(pairs: list[tuple[str, str]], padding: int = 0) -> Tensor:
    rows = [preprocessor().encode(text) for column in zip(*pairs, strict=True) for text in column]
    ids = padded(rows)
    return torch.cat([ids, torch.zeros(len(ids), padding, dtype=torch.int64)], dim=1)


def fitted(pairs: list[tuple[str, str]]) -> PairSimilarity:
    similarity = PairSimilarity(preprocessor().alphabet)
    similarity.fit([ids_of(pairs[:2]), ids_of(pairs[2:])])
    return similarity


def by_hand(first: str, second: str, size: int, texts: list[str]) -> tuple[float, float, float]:
    def ngrams(text: str) -> Counter[str]:
        return Counter(text[start : start + size] for start in range(len(text) - size + 1))

    def weights(text: str) -> dict[str, float]:
        counts = {ngram: sum(ngram in ngrams(other) for other in texts) for ngram in ngrams(text)}
        idf = {ngram: math.log((1 + len(texts)) / (1 + number)) + 1 for ngram, number in counts.items()}
        return {ngram: (1 + math.log(number)) * idf[ngram] for ngram, number in ngrams(text).items()}

    ours, theirs = weights(first), weights(second)
    both = ours.keys() & theirs.keys()
    norm = math.sqrt(sum(value**2 for value in ours.values()) * sum(value**2 for value in theirs.values()))
    shared = sum(min(ours[ngram], theirs[ngram]) for ngram in both)
    shares = sorted(shared / total if (total := sum(side.values())) else 0.0 for side in (ours, theirs))
    return sum(ours[ngram] * theirs[ngram] for ngram in both) / norm if norm else 0.0, shares[0], shares[1]


def test_the_features_equal_counting_by_hand() -> None:
    similarity = fitted(PAIRS)
    texts = [text for pair in PAIRS for text in pair]
    features = similarity(ids_of(PAIRS)) * similarity.deviation + similarity.mean
    for row, pair in zip(features.tolist(), PAIRS, strict=True):
        for number, size in enumerate(SIZES):
            cosine, *shares = by_hand(*pair, size, texts)
            assert row[3 * number] == pytest.approx(cosine, abs=1e-5)
            if all(len(text) >= size for text in pair):
                assert row[3 * number + 1 : 3 * number + 3] == pytest.approx(shares, abs=1e-5)
        lengths = [len(text) for text in pair]
        assert row[-2] == pytest.approx(math.log1p(sum(lengths)), abs=1e-5)


def test_case_order_and_padding_change_nothing() -> None:
    similarity = fitted(PAIRS)
    features = similarity(ids_of(PAIRS))
    others = [[(second, first) for first, second in PAIRS], [(first.upper(), second) for first, second in PAIRS]]
    for pairs in others:
        torch.testing.assert_close(similarity(ids_of(pairs)), features, atol=1e-5, rtol=0)
    torch.testing.assert_close(similarity(ids_of(PAIRS, padding=9)), features, atol=1e-5, rtol=0)
    alone = torch.cat([similarity(ids_of([pair])) for pair in PAIRS])
    torch.testing.assert_close(alone, features, atol=1e-5, rtol=0)


def test_the_features_of_the_training_texts_are_standardized() -> None:
    features = fitted(PAIRS)(ids_of(PAIRS))
    assert features.shape == (len(PAIRS), NUM_SIMILARITIES) and features.abs().sum() > 0
    torch.testing.assert_close(features.mean(0), torch.zeros(NUM_SIMILARITIES), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, unbiased=False), torch.ones(NUM_SIMILARITIES), atol=1e-3, rtol=0)
