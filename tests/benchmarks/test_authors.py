"""Questions about authors: pairs of different documents, calibration on other authors, intervals; whole texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

AUTHORS = ["ann", "bob", "cid", "dan", "eve", "fay"]


@pytest.fixture
def texts() -> Any:
    """Six authors with 8 known paragraphs and two test documents of 6."""
    import author_data

    known, test = (
        author_data.Paragraphs([f"{a} {n}" for a, n, _ in rows], [a for a, _, _ in rows], [d for _, _, d in rows])
        for rows in (
            [(author, number, "old") for author in AUTHORS for number in range(8)],
            [(author, number, f"new {number // 6}") for author in AUTHORS for number in range(12)],
        )
    )
    folds = {author: number % 2 for number, author in enumerate(AUTHORS)}
    copies = dict.fromkeys(author_data.COPIES, test.texts)
    pairs = author_data._pairs(known, test, folds, 10)
    return author_data.AuthorSet("letters", known, test, copies, pairs, folds)


def test_a_pair_is_by_one_author_or_by_two_of_the_same_fold(texts: Any) -> None:
    pairs = texts.pairs
    assert len(pairs.truths) == 2 * 10 * len(AUTHORS) and pairs.truths.mean() == 0.5
    for known, questioned, truth, fold, author in zip(*pairs, strict=True):
        writers = {texts.test.authors[row] for row in questioned}
        assert {texts.known.authors[row] for row in known} == {author} and len(writers) == 1
        assert (writers == {author}) == truth
        assert {texts.folds[name] for name in writers} == {fold}
        assert not {author, *writers} & set(texts.population(fold).authors)
    assert texts.joined("known")[0].count(texts.pairs.authors[0]) == 5


def test_the_report_compares_with_ngrams_and_calibrates_on_other_authors(texts: Any, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    import author_report

    generator = np.random.default_rng(1)
    gold = np.array([AUTHORS.index(author) for author in texts.test.authors])
    (tmp_path / "scores").mkdir()
    for name, skill in (("ngrams", 0.3), ("encodings", 3.0)):
        scores = {}
        for copy in texts.copies:
            noise = generator.normal(size=(len(gold), len(AUTHORS)))
            scores[f"{copy}, attribution"] = noise + skill * np.eye(len(AUTHORS))[gold]
            size = len(texts.pairs.truths)
            scores[f"{copy}, verification"] = 40 + generator.normal(size=size) + skill * texts.pairs.truths
        np.savez(tmp_path / "scores" / f"letters, {name}.npz", **scores)
    rows = {row.name: row for row in author_report.attribution_rows(texts, tmp_path)}
    better = rows["letters, attribution, clean, encodings"]
    assert better.value > 80 and better.ratio is not None and better.ratio > 2 and "over n-grams [+" in better.peer
    assert "letters, attribution, 10 % typos, encodings + ngrams" in rows
    rows = {row.name: row for row in author_report.verification_rows(texts, tmp_path)}
    assert (
        rows["letters, verification, clean, encodings"].value > 0.9 > rows["letters, verification, clean, ngrams"].value
    )
    with np.load(tmp_path / "scores" / "letters, encodings.npz") as arrays:
        clean = arrays["clean, verification"]
    probabilities = author_report.calibrated(clean, clean, texts)
    assert ((probabilities > 0.5) == texts.pairs.truths).mean() > 0.85
    shifted = np.where(texts.pairs.folds == 0, clean + 100, clean)  # the curve of the other fold does not fit
    assert author_report.calibrated(shifted, shifted, texts)[texts.pairs.folds == 0].min() > 0.99


def test_whole_texts_are_compared_with_a_control_of_equal_size(tmp_path: Path) -> None:
    import whole_texts

    assert whole_texts.compositions([1, 2, 3], 3)["masked+masked"] == ("masked-3", "masked-1")
    hits = {"ngrams": "1100", "masked": "1000", "masked+whole": "1110", "masked+masked": "1001"}
    lines = [{"set": "colors", "seed": seed, "train": 5, "hits": hits} for seed in (1, 2)]
    (tmp_path / whole_texts.RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = {row.name: row for row in whole_texts.report(tmp_path)}
    assert rows["colors, masked+whole"].value == 75
    assert (
        "2 seeds" in rows["colors, masked+whole"].peer
        and "over masked+masked +25.0" in rows["colors, masked+whole"].peer
    )
