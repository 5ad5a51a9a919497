"""Answers from scores, as JSON-compatible values. Heads and ensembles give the same ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def label_answers(scores: Tensor, labels: Sequence[str]) -> list[dict[str, Any]]:
    """`label`, its probability `score`, and the probabilities `scores` of all labels, most probable first.

    Args:
        scores: (N, K), log-probabilities up to a constant per row.
        labels: the K labels.
    """
    answers = []
    for row in torch.softmax(scores.float(), dim=-1).tolist():
        order = sorted(range(len(row)), key=lambda number: -row[number])
        probabilities = {labels[number]: row[number] for number in order}
        label = labels[order[0]]
        answers.append({"label": label, "score": probabilities[label], "scores": probabilities})
    return answers


def multilabel_answers(scores: Tensor, labels: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """`labels`, those with at least the probability `threshold`, and the probabilities `scores` of all labels.

    Args:
        scores: (N, K), log-odds.
        labels: the K labels.
        threshold: 0 to 1.
    """
    answers = []
    for row in torch.sigmoid(scores.float()).tolist():
        probabilities = dict(zip(labels, row, strict=True))
        selected = [label for label, value in probabilities.items() if value >= threshold]
        answers.append({"labels": selected, "scores": probabilities})
    return answers
