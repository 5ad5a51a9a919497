"""`train: probe`: a linear model on frozen features, fitted to convergence and written into the head."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cclm_core.evaluation.linear_probe import Scale, one_blas_thread
from cclm_core.finetuning.encoding import Encoding, Noise
from cclm_core.finetuning.model import TaskModel
from cclm_core.heads.base import IDS
from cclm_core.heads.tags import Tags
from cclm_core.heads.texts import TextHead
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.random import derive

_PENALTIES = (1e-4, 1e-3, 1e-2)
_MAX_ITERATIONS = 500
_ANSWERS = {"label", "labels", "value", "tag"}


def fit_probe(
    model: TaskModel,
    encoding: Encoding,
    noise: Noise | None,
    train: Sequence[LabeledText],
    validation: Sequence[LabeledText],
    seed: int,
) -> dict[str, float]:
    """Fits the head on the features of `train` and of a noised copy; the penalty is selected on `validation`.

    Returns:
        The selected penalty and the validation metrics by name.

    Source: scikit-learn's LogisticRegression, OneVsRestClassifier and Ridge.
    """
    rows, targets = _features(model, encoding, train, None, seed)
    if noise is not None and noise.share:
        more, more_targets = _features(model, encoding, train, noise, seed)
        rows = torch.cat([rows, more])
        targets = {name: torch.cat([values, more_targets[name]]) for name, values in targets.items()}
    scale = Scale.of(rows.double())
    inputs = scale(rows.double()).numpy()
    best: dict[str, float] = {}
    best_weights: dict[str, torch.Tensor] = {}
    for penalty in _PENALTIES:
        weight, bias = fit_linear(model, inputs, targets, penalty)
        folded = weight * scale.inverse[None]
        state = {"linear.weight": folded.float(), "linear.bias": (bias - folded @ scale.mean).float()}
        model.head.load_state_dict(model.head.state_dict() | state)
        metrics = _validated(model, encoding, validation or train, seed)
        name = model.head.selection_metric
        if not best or metrics[name] < best[name]:
            best, best_weights = metrics | {"penalty": penalty}, state
    model.head.load_state_dict(model.head.state_dict() | best_weights)
    return best


def _features(
    model: TaskModel, encoding: Encoding, texts: Sequence[LabeledText], noise: Noise | None, seed: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the linear layer reads (N, P), and the targets."""
    rows, columns = [], []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            example = encoding.example(texts[start : start + 32], noise, derive(seed, "probe", start))
            features = model.encoder(example.ids)
            head = model.head
            if isinstance(head, TextHead):
                rows.append(head.joined(head.pooling(features, example.ids != 0), example.ids))
            else:
                assert isinstance(head, Tags)
                rows.append(head.words(features, example.targets))
            columns.append(
                {name: value for name, value in example.targets.items() if name not in ("row", "start", "stop")}
            )
    return torch.cat(rows), {name: torch.cat([column[name] for column in columns]) for name in columns[0]}


def fit_linear(
    model: TaskModel, inputs: Any, targets: dict[str, torch.Tensor], penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (K, P) and biases (K,) of a linear model on `inputs` (N, P), in the units of the scores of the head."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    strength = 1 / (penalty * inputs.shape[1] * len(inputs))
    num_scores = len(model.head.state_dict()["linear.bias"])
    logistic = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    weight, bias = np.zeros((num_scores, inputs.shape[1])), np.full(num_scores, -20.0)
    with one_blas_thread():
        if model.task == "regress":
            values = (targets["value"].numpy() - model.card.mean) / model.card.deviation
            ridge = Ridge(alpha=penalty * inputs.shape[1] * len(inputs)).fit(inputs, values)
            weight[0], bias[0] = ridge.coef_, ridge.intercept_
        elif model.task == "multilabel":
            fitted = OneVsRestClassifier(logistic).fit(inputs, targets["labels"].numpy().astype(int))
            for row, estimator in enumerate(fitted.estimators_):
                weight[row], bias[row] = estimator.coef_[0], estimator.intercept_[0]
        else:
            name = "label" if model.task == "classify" else "tag"
            fitted = logistic.fit(inputs, targets[name].numpy())
            if len(fitted.classes_) == 2:
                first, second = fitted.classes_
                bias[first], bias[second] = 0, fitted.intercept_[0]
                weight[second] = fitted.coef_[0]
            else:
                weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
    return torch.from_numpy(weight), torch.from_numpy(bias)


def _validated(model: TaskModel, encoding: Encoding, texts: Sequence[LabeledText], seed: int) -> dict[str, float]:
    totals: dict[str, list[float]] = {}
    model.head.eval()
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            example = encoding.example(texts[start : start + 32], None, derive(seed, "probe"))
            targets = example.targets | {IDS: example.ids}
            scores = model.head(model.encoder(example.ids), example.ids != 0, targets)
            for name, sums in model.head.loss(scores, example.targets)[1].items():
                total = totals.setdefault(name, [0.0, 0.0])
                total[0] += sums.total
                total[1] += sums.number
    return {name: total / max(1, number) for name, (total, number) in totals.items()}
