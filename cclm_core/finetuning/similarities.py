"""Adds the similarities of pairs to a trained network: a linear model on them, and the weights of both in the sum.

A network that learned both together would fit its training pairs so well that it had nothing left to learn from the
similarities. Fitted on their own, they make other errors than the network, as n-grams do; see `ngrams`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cclm_core.finetuning.encoding import Encoding, Noise, padded
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.probe import fit_linear
from cclm_core.heads.texts import TextHead
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.device import device_of
from cclm_core.runtime.random import derive

_PENALTY = 1e-4
_NETWORK_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
_MIN_VALIDATION = 200  # pairs for selecting the two weights; with fewer, both are 0.5
_GROUP = 256  # pairs read at once


def ids_of_pairs(encoding: Encoding, first: Sequence[str], second: Sequence[str]) -> list[Tensor]:
    """The ids (2N, L) of pairs of texts, in groups."""
    groups = [slice(start, start + _GROUP) for start in range(0, len(first), _GROUP)]
    encode = encoding.preprocessor.encode
    return [padded([encode(text) for text in (*first[group], *second[group])]) for group in groups]


def add_similarities(
    model: TaskModel,
    encoding: Encoding,
    noise: Noise,
    train: Sequence[LabeledText],
    validation: Sequence[LabeledText],
    seed: int,
) -> dict[str, float]:
    """Changes the linear layer of the head: (weight of the network) times its scores, plus those of the similarities.

    The weights have the lowest loss on the validation pairs, clean and noised.

    Returns:
        `network_weight` and `similarity_weight`.
    """
    head = model.head
    assert isinstance(head, TextHead) and head.similarity is not None
    device = device_of(head)
    similarity = head.similarity.cpu()
    *rows, targets = _copies(encoding, noise, train, seed, "train")
    inputs = torch.cat([similarity(ids) for ids in ids_of_pairs(encoding, *rows)])
    weight, bias = fit_linear(model, inputs.double().numpy(), targets, _PENALTY)
    weight, bias = weight.float(), bias.float()
    known = [pair for pair in validation if model.task != "classify" or pair.label in model.labels]
    best = (0.5, 0.5)
    if len(known) >= _MIN_VALIDATION:
        first, second, gold = _copies(encoding, noise, known, seed, "validation")
        own = model.head_scores([*first, *second])
        read = torch.cat([similarity(ids) for ids in ids_of_pairs(encoding, first, second)])
        added = read @ weight.T + bias
        losses = {
            (network, other): float(head.loss(network * own + other * added, gold)[0])
            for network in _NETWORK_WEIGHTS
            for other in _WEIGHTS
        }
        best = min(losses, key=lambda weights: losses[weights])
    similarity.to(device)
    weight, bias = weight.to(device), bias.to(device)
    with torch.no_grad():
        head.linear.weight[:, : head.width] *= best[0]
        head.linear.weight[:, head.width :] = best[1] * weight
        head.linear.bias.copy_(best[0] * head.linear.bias + best[1] * bias)
    return {"network_weight": best[0], "similarity_weight": best[1]}


def _copies(
    encoding: Encoding, noise: Noise, pairs: Sequence[LabeledText], seed: int, name: str
) -> tuple[list[str], list[str], dict[str, Tensor]]:
    """All pairs and, with noise, a noised copy of them: first texts, second texts, targets."""
    first, second = [pair.text for pair in pairs], [str(pair.second) for pair in pairs]
    targets = encoding.answers(pairs)
    if not noise.share:
        return first, second, targets
    noised, _ = noise([*first, *second], derive(seed, "similarities", name))
    doubled = {key: torch.cat([values, values]) for key, values in targets.items()}
    return [*first, *noised[: len(pairs)]], [*second, *noised[len(pairs) :]], doubled
