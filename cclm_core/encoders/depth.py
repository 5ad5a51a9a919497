"""The depth of each weight: how many layers lie below it. Layer-wise learning rates need it."""

import re
from collections.abc import Mapping

from torch import nn

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\.")
_BELOW = ("embedding", "before", "down", "places")


def depths(model: nn.Module) -> Mapping[str, int]:
    """Name of a parameter -> its depth: 0 for embeddings and the layers below the first numbered one.

    Numbered layers (`layers.N`, `blocks.N`) have the depths 1, 2, …; everything above them has the next one. The parts
    of a composition lie above its base.

    >>> from cclm_core.encoders import ConvolutionConfig
    >>> sorted(set(depths(ConvolutionConfig(num_blocks=2, width=16).build(16)).values()))
    [1, 2, 3]
    """
    result: dict[str, int] = {}
    base = {name: depth for name, depth in _within(model, "base.").items()}
    above = 1 + max(base.values(), default=-1)
    for name, _ in model.named_parameters():
        if name in base:
            result[name] = base[name]
    rest = [name for name, _ in model.named_parameters() if name not in base]
    return result | {name: above + depth for name, depth in _depths_of(rest).items()}


def _within(model: nn.Module, prefix: str) -> dict[str, int]:
    names = [name for name, _ in model.named_parameters() if name.startswith(prefix)]
    return _depths_of(names)


def _depths_of(names: list[str]) -> dict[str, int]:
    numbers = {name: match for name in names if (match := _LAYER.search(name))}
    top = 1 + max((1 + int(match[1]) for match in numbers.values()), default=0)
    result = {}
    for name in names:
        if name in numbers:
            result[name] = 1 + int(numbers[name][1])
        else:
            is_below = any(f".{below}" in f".{name}" for below in _BELOW)
            result[name] = 0 if is_below else top
    return result
