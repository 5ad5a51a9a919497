"""Plots: readable with few and with many labels, and reproducible."""

from pathlib import Path

import matplotlib.image
import numpy as np

from cclm_core.evaluation.metrics import Baseline, Bootstrap, Metric
from cclm_core.evaluation.plots import PLOTS
from cclm_core.evaluation.result import Evaluation


def evaluation(num_labels: int = 3) -> Evaluation:
    generator = np.random.default_rng(0)
    result = Evaluation(Bootstrap(), 1)
    for rate in (0.0, 0.1):
        metric = Metric(value=0.8 - rate, better="higher", interval=(0.7 - rate, 0.9 - rate), headline=True)
        compared = metric.model_copy(update={"baselines": (Baseline(name="simple", value=0.5),)})
        hidden = Metric(value=0.1, better="higher")
        result.curve.append((rate, {"a_score": compared, "another": metric, "hidden": hidden}))
    labels = [f"label {number:02}" for number in range(num_labels)]
    true, predicted = generator.choice(labels, (2, 20 * num_labels)).tolist()
    pairs = zip(true, predicted, strict=True)
    result.tables["confusion"] = [{"true": label, "predicted": prediction} for label, prediction in pairs]
    result.tables["contribution"] = [
        {"component": name, "metric": metric, "contribution": value}
        for metric in ("a_score", "another")
        for name, value in (("one", 0.1), ("two", -0.02))
    ]
    return result


def test_equal_evaluations_give_equal_bytes(tmp_path: Path) -> None:
    for name, (title, plot) in PLOTS.items():
        for number in range(2):
            plot(tmp_path / f"{name}-{number}.png", title, evaluation())
        first, second = ((tmp_path / f"{name}-{number}.png").read_bytes() for number in range(2))
        assert first == second and len(first) > 5000


def test_a_confusion_matrix_with_many_labels_is_larger_and_mostly_light(tmp_path: Path) -> None:
    heights = []
    for number in (3, 77):
        PLOTS["confusion"][1](tmp_path / "plot.png", "title", evaluation(number))
        image = matplotlib.image.imread(tmp_path / "plot.png")
        heights.append(image.shape[0])
        dark = (image[:, :, :3].mean(axis=2) < 0.4).mean()
        assert dark < 0.1
    assert heights[1] > 2 * heights[0]
