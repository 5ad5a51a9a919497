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
    names = [name for name, _ in model.named_parameters()]
    base = _depths([name for name in names if name.startswith("base.")])
    above = 1 + max(base.values(), default=-1)
    rest = _depths([name for name in names if name not in base])
    return base | {name: above + depth for name, depth in rest.items()}


def _depths(names: list[str]) -> dict[str, int]:
    numbers = {name: 1 + int(match[1]) for name in names if (match := _LAYER.search(name))}
    top = 1 + max(numbers.values(), default=0)
    below = {name for name in names if any(f".{layer}" in f".{name}" for layer in _BELOW)}
    return {name: numbers.get(name, 0 if name in below else top) for name in names}
