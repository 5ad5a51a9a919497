"""The tables of benchmarks/authors.py from what is measured so far, with 95 % intervals."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from author_data import COPIES, SEED, SETS, AuthorSet, author_set
from rows import Row

from cclm_core.evaluation.contexts import ContextResult, context_table
from cclm_core.evaluation.metrics import Bootstrap, Measurement, ratio
from cclm_core.evaluation.verification import verification_metrics
from cclm_core.runtime.random import derive

RESAMPLES = 1000


def report(folder: Path) -> list[Row]:
    """All rows."""
    rows = [*training_rows(folder), *context_rows(folder)]
    for title in SETS:
        if list((folder / "scores").glob(f"{title}, *.npz")):
            texts = author_set(title)
            rows += [*attribution_rows(texts, folder), *verification_rows(texts, folder)]
    return rows


def training_rows(folder: Path) -> list[Row]:
    """The speed of each training, and of reused encodings."""
    rows = []
    for path in sorted((folder / "training").glob("*.json")):
        values = json.loads(path.read_text())
        if path.stem == "reuse":
            for name in ("none", "read", "reused"):
                peer = f"without contexts: {values['none']:.0f} characters/s"
                ratio_ = values[name] / values["none"]
                rows.append(Row(f"bi_encoder, contexts: {name}", values[name], "characters/s", peer, ratio_, "higher"))
            continue
        facts = f"{values['steps']} steps, {values['parameters'] / 1e6:.2f} M parameters"
        rows.append(Row(f"{values['model']}, training", values["seconds"], "s", facts, None, "lower"))
        if speed := values.get("characters_per_second"):
            text = "of the text, while reading 4 contexts of the same length"
            rows.append(Row(f"{values['model']}, speed of training", speed, "characters/s", text, None, "higher"))
    return rows


def context_rows(folder: Path) -> list[Row]:
    """Bits per masked character with each type of contexts."""
    rows = []
    for path in sorted((folder / "contexts").glob("*.json")):
        results = [
            ContextResult(name=key.split()[0], number=int(key.split()[1]), rows=values)  # type: ignore[arg-type]
            for key, values in json.loads(path.read_text()).items()
        ]
        for row in context_table(results, Bootstrap(), SEED):
            saved = "" if row["gain"] == "" else f"saved over none: {_interval(row['gain'], row['low'], row['high'])}"
            stratum = "" if row["stratum"] == "all" else f", {row['stratum']} ({row['texts']} texts)"
            label = f"{path.stem}, {row['type']} x {row['number']}{stratum}"
            rows.append(Row(label, row["bits_per_masked_character"], "bits", saved, None, "lower"))
        by_name = {(result.name, result.number): result.measurement for result in results}
        author, random = (
            by_name[name, max(result.number for result in results if result.name == name)]  # type: ignore[index]
            for name in ("author", "random")
        )
        difference = author.loss_without(random)
        low, high = Bootstrap().interval(difference, SEED) or (0.0, 0.0)
        text = _interval(difference.value, low, high)
        rows.append(Row(f"{path.stem}, author saves over random", difference.value, "bits", text, None, "higher"))
    return rows


class _Scores(NamedTuple):
    """The scores of all methods on a set: method -> key -> array."""

    methods: dict[str, dict[str, npt.NDArray[np.float64]]]

    @classmethod
    def read(cls, texts: AuthorSet, folder: Path) -> "_Scores":
        methods = {}
        for path in sorted((folder / "scores").glob(f"{texts.name}, *.npz")):
            with np.load(path) as arrays:
                methods[path.stem.removeprefix(f"{texts.name}, ")] = dict(arrays)
        return cls(methods)


def attribution_rows(texts: AuthorSet, folder: Path) -> list[Row]:
    """Accuracy per method and copy, alone and in sum with n-grams; the interval resamples documents."""
    scores = _Scores.read(texts, folder).methods
    gold = np.array([texts.labels.index(author) for author in texts.test.authors])
    keys = list(zip(texts.test.authors, texts.test.documents, strict=True))
    documents = np.unique([" / ".join(key) for key in keys], return_inverse=True)[1]
    rows = []
    for copy in COPIES:
        key = f"{copy}, attribution"
        names = [name for name in scores if key in scores[name]]
        values = {name: scores[name][key] for name in names}
        if "ngrams" in names:
            others = [name for name in names if name != "ngrams"]
            values |= {f"{name} + ngrams": _normal(values[name]) + _normal(values["ngrams"]) for name in others}
        hits = {name: _by_document(value.argmax(1) == gold, documents) for name, value in values.items()}
        for name, measurement in hits.items():
            peer, ratio_ = _measured(measurement), None
            if "ngrams" in hits and name != "ngrams":
                difference = measurement.loss_without(hits["ngrams"])
                peer += f"; over n-grams {_measured(difference, sign='+')}"
                ratio_ = measurement.value / hits["ngrams"].value
            label = f"{texts.name}, attribution, {copy}, {name}"
            rows.append(Row(label, 100 * measurement.value, "%", peer, ratio_, "higher"))
    return rows


def _normal(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log-probabilities; likelihood ratios of long texts are made as sharp as n-grams: deviation 1 within a text."""
    if np.allclose(np.exp(scores).sum(1), 1, atol=1e-3):
        return scores
    deviations: npt.NDArray[np.float64] = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    return deviations


def _by_document(hits: npt.NDArray[np.bool_], documents: npt.NDArray[np.int64]) -> Measurement:
    return ratio(np.bincount(documents, hits), np.bincount(documents), headline=True)


def _measured(measurement: Measurement, sign: str = "") -> str:
    low, high = Bootstrap().interval(measurement, SEED) or (0.0, 0.0)
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def verification_rows(texts: AuthorSet, folder: Path) -> list[Row]:
    """AUC, c@1, F0.5u and Brier of the calibrated probabilities; the interval of AUC resamples authors."""
    rows = []
    for name, values in _Scores.read(texts, folder).methods.items():
        for key in sorted(values):
            copy, _, kind = key.rpartition(", ")
            if not kind.startswith("verification"):
                continue
            clean = values[f"clean, {kind}"]
            probabilities = calibrated(clean, values[key], texts)
            metrics = verification_metrics(probabilities, texts.pairs.truths)
            low, high = _auc_interval(probabilities, texts)
            facts = f"[{low:.3f}, {high:.3f}] " + ", ".join(
                f"{metric} {value:.3f}" for metric, value in metrics.items() if metric != "auc"
            )
            label = f"{texts.name}, {kind}, {copy}, {name}"
            rows.append(Row(label, metrics["auc"], "AUC", facts, None, "higher"))
    return sorted(rows, key=lambda row: "10 %" in row.name)


def calibrated(
    clean: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], texts: AuthorSet
) -> npt.NDArray[np.float64]:
    """Probabilities (P,): a logistic curve over the scores, fitted on the clean pairs of the other fold."""
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros(len(scores))
    for fold in (0, 1):
        rows = texts.pairs.folds == fold
        mean, scale = clean[~rows].mean(), clean[~rows].std() or 1.0
        curve = LogisticRegression(C=100).fit((clean[~rows, None] - mean) / scale, texts.pairs.truths[~rows])
        probabilities[rows] = curve.predict_proba((scores[rows, None] - mean) / scale)[:, 1]
    return probabilities


def _auc_interval(probabilities: npt.NDArray[np.float64], texts: AuthorSet) -> tuple[float, float]:
    by_author: dict[str, list[int]] = {}
    for row, author in enumerate(texts.pairs.authors):
        by_author.setdefault(author, []).append(row)
    groups, generator, values = list(by_author.values()), derive(SEED, "auc"), []
    for _ in range(RESAMPLES):
        rows = [row for drawn in generator.integers(len(groups), size=len(groups)) for row in groups[drawn]]
        values.append(verification_metrics(probabilities[rows], texts.pairs.truths[rows])["auc"])
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _interval(*values: Any) -> str:
    value, low, high = (f"{number:+.3f}" for number in values)
    return f"{value} [{low}, {high}]"
