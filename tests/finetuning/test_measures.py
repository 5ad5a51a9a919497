"""Metrics of tasks equal those of scikit-learn, and paired comparison finds real differences only."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.corpus.records import Entity
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.finetuning.measures import measure
from cclm_core.finetuning.outcomes import gains, read_outcomes, write_outcomes
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import ArtifactError

metrics = pytest.importorskip("sklearn.metrics")


def test_label_metrics_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    gold, predicted = (generator.choice(list("abc"), 200).tolist() for _ in range(2))
    texts = [LabeledText(str(number), "x", label=label) for number, label in enumerate(gold)]
    measured = measure("classify", texts, [{"label": label} for label in predicted])
    assert measured["accuracy"].value == pytest.approx(metrics.accuracy_score(gold, predicted))
    assert measured["macro_f1"].value == pytest.approx(metrics.f1_score(gold, predicted, average="macro"))


def test_a_label_that_training_never_saw_counts_as_wrong() -> None:
    texts = [LabeledText("1", "x", label="new"), LabeledText("2", "x", label="a")]
    measured = measure("classify", texts, [{"label": "a"}, {"label": "a"}])
    assert measured["accuracy"].value == 0.5 and measured["macro_f1"].value == pytest.approx(1 / 3)


def test_correlations_equal_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    gold = generator.integers(0, 6, 100).astype(float)
    predicted = gold + generator.normal(size=100)
    texts = [LabeledText(str(number), "x", value=value) for number, value in enumerate(gold)]
    measured = measure("regress", texts, [{"value": value} for value in predicted])
    assert measured["pearson"].value == pytest.approx(stats.pearsonr(gold, predicted)[0])
    assert measured["spearman"].value == pytest.approx(stats.spearmanr(gold, predicted)[0])


def test_entities_count_only_with_exact_edges_and_label() -> None:
    text = LabeledText("1", "Bob in Rome now", entities=(Entity(0, 3, "PER"), Entity(7, 11, "LOC")))
    spans = [(0, 3, "PER"), (7, 15, "LOC"), (4, 6, "LOC")]
    entities = [{"start": start, "end": end, "label": label} for start, end, label in spans]
    measured = measure("tag", [text], [{"entities": entities}])
    assert measured["entity_precision"].value == pytest.approx(1 / 3)
    assert measured["entity_recall"].value == pytest.approx(1 / 2)
    assert measured["entity_f1"].value == pytest.approx(2 / 5)


def _outcomes(folder: Path, correct: list[float], ids: list[str] | None = None) -> Path:
    folder.mkdir()
    names = ids or [str(number) for number in range(len(correct))]
    rows = [
        {"id": name, "set": "clean", "metric": "accuracy", "statistics": [value, 1.0]}
        for name, value in zip(names, correct, strict=True)
    ]
    write_outcomes(folder, rows)
    return folder


def test_gains_pair_the_texts(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    champion = (generator.random(500) < 0.7).astype(float)
    better = np.maximum(champion, generator.random(500) < 0.1)
    folders = [_outcomes(tmp_path / name, values.tolist()) for name, values in (("old", champion), ("new", better))]
    old, new = map(read_outcomes, folders)
    gain = gains(new, old, Bootstrap(), 1)["accuracy_clean"]
    assert gain.value == pytest.approx(float((better - champion).mean())) and 0 < gain.low < gain.value < gain.high
    assert gains(old, old, Bootstrap(), 1)["accuracy_clean"] == (0, 0, 0)
    worse = gains(old, new, Bootstrap(), 1)["accuracy_clean"]
    assert worse.high < 0 and worse.value == pytest.approx(-gain.value)


def test_other_texts_are_not_compared(tmp_path: Path) -> None:
    one = read_outcomes(_outcomes(tmp_path / "one", [1, 0], ["a", "b"]))
    other = read_outcomes(_outcomes(tmp_path / "other", [1, 0], ["a", "c"]))
    with pytest.raises(ArtifactError, match="different texts of the set clean"):
        gains(one, other, Bootstrap(), 1)
    with pytest.raises(ArtifactError, match=r"outcomes.parquet not found"):
        read_outcomes(tmp_path)
