"""Duplicates: the first record is kept for any batch size, and MinHash finds near texts at the stated rate."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from cclm_core.ingest.duplicates import Duplicates, DuplicatesConfig, FirstSeen
from cclm_core.ingest.minhash import NUM_HASHES, band_keys, num_rows, signatures
from cclm_core.ingest.prepare import keys

WORDS = ["the", "sea", "a", "song", "love", "letter", "ring", "captain", "duke", "fool", "night", "music", "ship"]


def jaccard(left: str, right: str, ngram: int) -> float:
    sets = [{text[k : k + ngram] for k in range(max(1, len(text) - ngram + 1))} for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def sentences(generator: np.random.Generator, count: int) -> list[str]:
    return [" ".join(generator.choice(WORDS, 30)) + f" {number}" for number in range(count)]


def test_first_seen_agrees_with_a_dict(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    seen, first_numbers, next_number = FirstSeen(sqlite3.connect(tmp_path / "seen"), "ids"), dict[int, int](), 0
    for _ in range(30):
        drawn = generator.integers(0, 60_000, 5000).astype(np.uint64)
        # Many keys share one half, so the test fails if only one half is compared.
        halves = np.stack([drawn // np.uint64(7), drawn % np.uint64(7)], axis=1)
        numbers = np.arange(next_number, next_number + len(drawn))
        next_number += len(drawn)
        pairs = zip(drawn.tolist(), numbers.tolist(), strict=True)
        expected = [first_numbers.setdefault(key, number) for key, number in pairs]
        assert seen.add(halves * np.uint64(2), numbers).tolist() == expected


def test_first_seen_accepts_an_empty_batch(tmp_path: Path) -> None:
    empty = np.empty(0, dtype=np.int64)
    assert len(FirstSeen(sqlite3.connect(tmp_path / "seen"), "ids").add(np.empty((0, 2), dtype=np.uint64), empty)) == 0


def test_signatures_estimate_jaccard_similarity() -> None:
    generator = np.random.default_rng(2)
    texts = sentences(generator, 200)
    edited = [text[: (cut := int(generator.integers(10, 100)))] + "…" + text[cut + 8 :] for text in texts]
    estimates = (signatures(texts, 5) == signatures(edited, 5)).mean(axis=1)
    true = np.array([jaccard(*pair, 5) for pair in zip(texts, edited, strict=True)])
    errors = estimates - true
    assert np.sqrt((errors**2).mean()) < 1.5 * np.sqrt((true * (1 - true) / NUM_HASHES).mean())
    assert abs(errors.mean()) < 0.015


def test_a_signature_is_independent_of_the_batch() -> None:
    texts = ["", "a", "ab", "abcd", "abcde", "ein längerer Text 🙂", "x" * 70_000, "abc"]
    together = signatures(texts, 5)
    for text, signature in zip(texts, together, strict=True):
        assert np.array_equal(signatures([text], 5)[0], signature)
    assert len(np.unique(together, axis=0)) == len(texts)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_texts_at_the_threshold_share_a_band_with_probability_0_9(threshold: float) -> None:
    generator = np.random.default_rng(3)
    left = generator.integers(0, 2**32, (4000, NUM_HASHES), dtype=np.uint32)
    right = np.where(generator.random(left.shape) < threshold, left, left + np.uint32(1))
    shared = (band_keys(left, threshold) == band_keys(right, threshold)).all(axis=2).any(axis=1).mean()
    assert shared > 0.9 - 4 * np.sqrt(0.09 / 4000)
    assert num_rows(threshold) * band_keys(left[:1], threshold).shape[1] <= NUM_HASHES


def nearest_earlier(folder: Path, texts: list[str], batch_size: int, threshold: float = 0.8) -> list[int]:
    folder.mkdir()
    duplicates = Duplicates(folder, DuplicatesConfig(kind="near", threshold=threshold))
    matches = []
    for begin in range(0, len(texts), batch_size):
        batch = texts[begin : begin + batch_size]
        numbers = duplicates.number(["a"] * len(batch), np.arange(begin, begin + len(batch)))
        matches += duplicates.near_text(signatures(batch, 5), numbers, np.ones(len(batch), dtype=bool)).tolist()
    duplicates.close()
    return matches


def test_only_near_texts_match_for_any_batch_size(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    texts = [" ".join(chr(0x4E00 + int(k)) for k in generator.integers(0, 20_000, 100)) for _ in range(200)]
    near_texts = [text[:180] + "…" + text[184:] for text in texts[:50]]
    far_texts = [left[:100] + right[100:] for left, right in zip(texts[:50], texts[50:100], strict=True)]
    matches = nearest_earlier(tmp_path / "a", [*texts, *near_texts, *far_texts], 400)
    assert matches[:200] == list(range(200))
    assert matches[200:250] == list(range(50))
    assert matches[250:] == list(range(250, 300))
    assert nearest_earlier(tmp_path / "b", [*texts, *near_texts, *far_texts], 7) == matches


def test_a_location_is_file_and_line(tmp_path: Path) -> None:
    duplicates = Duplicates(tmp_path, None)
    duplicates.number(["a", "b"], np.array([3, 4]))
    numbers = duplicates.number(["b", "a"], np.array([5, 6]))
    assert numbers.tolist() == [2, 3]
    assert [duplicates.location(number) for number in range(4)] == ["a:3", "b:4", "b:5", "a:6"]
    duplicates.close()


def test_keys_differ_between_texts() -> None:
    assert len(np.unique(keys([str(number) for number in range(1000)]), axis=0)) == 1000
    assert np.array_equal(keys(["é"]), keys(["é"]))
