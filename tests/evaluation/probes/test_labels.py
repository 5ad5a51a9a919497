"""The labels probe: pooling, selecting the penalty, and metrics."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.evaluation.linear_probe import Scale
from cclm_core.evaluation.probes.labels import LabelsProbeConfig, Pool, fit_labels, label_metrics, pool, scale_of
from cclm_core.evaluation.reading import Reader
from cclm_core.text.vocabulary import Preprocessor
from tests.evaluation.fakes import FakeComposition

PENALTIES = LabelsProbeConfig().penalties


def test_pooling_in_pieces_equals_pooling_the_whole_text() -> None:
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    scale = Scale.of(features)
    pooling = Pool(scale, 2, max_ids=20)
    for start, stop in ((15, 25), (0, 7), (25, 30), (7, 15)):
        pooling.add(0, start, features[start:stop])
    z = (features[:20] - features.mean(0)) / features.std(0, correction=0)
    whole = torch.cat([(z - 1).clamp_min(0).mean(0), (-1 - z).clamp_min(0).mean(0)])
    torch.testing.assert_close(pooling.pooled()[0], whole)
    assert torch.equal(pooling.pooled()[1], torch.zeros(10))


def test_pooled_features_do_not_depend_on_the_batch_size() -> None:
    preprocessor = Preprocessor(alphabet="abc ")
    texts = [preprocessor.encode(text) for text in ("abc", "a cab " * 20, "", "b")]
    readers = [Reader(FakeComposition(preprocessor), size, 50) for size in (1, 9999)]
    scale = scale_of(readers[0], texts, 100)
    small, large = (pool(reader, scale, texts, 100) for reader in readers)
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-5)


def data(rows: int, seed: int) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 40, generator=generator)
    return features, ["a" if value > 0 else "b" for value in features[:, 0].tolist()]


def accuracy(gold: list[str], predicted: list[str]) -> float:
    return label_metrics(gold, predicted)["label_accuracy"].value


def test_labels_are_learned_and_shuffled_labels_are_not() -> None:
    train, labels = data(300, 0)
    test, gold = data(200, 1)
    probe = fit_labels(train, labels, *data(100, 2), PENALTIES).probe
    assert accuracy(gold, probe.predict(test)) > 0.85
    shuffled = [labels[index] for index in np.random.default_rng(0).permutation(300)]
    probe = fit_labels(train, shuffled, *data(100, 2), PENALTIES).probe
    assert accuracy(gold, probe.predict(test)) < 0.65


def test_held_out_documents_select_the_penalty() -> None:
    train, labels = data(60, 0)
    noisy = [label if number % 3 else "ab".replace(label, "") for number, label in enumerate(labels)]
    assert fit_labels(train, noisy, *data(100, 2), (1e-6, 0.3)).penalty == 0.3
    assert fit_labels(train, noisy, torch.zeros(0, 40), [], (1.0, 3.0, 2.0))[1:] == (2.0, None)


def test_metrics_of_a_few_documents() -> None:
    metrics = label_metrics(["x", "x", "x", "y"], ["x", "x", "z", "y"])
    assert metrics["label_accuracy"].value == 0.75
    assert metrics["label_macro_f1"].value == pytest.approx((0.8 + 1.0) / 2)
    assert {metric.better for metric in metrics.values()} == {"higher"}


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, predicted = np.random.default_rng(seed).choice(list("abcdef"), (2, 40)).tolist()
    gold = ["a" if label == "f" else label for label in gold]  # f is predicted but never true
    metrics = label_metrics(gold, predicted)
    assert metrics["label_accuracy"].value == pytest.approx(accuracy_score(gold, predicted))
    expected = f1_score(gold, predicted, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert metrics["label_macro_f1"].value == pytest.approx(expected)
