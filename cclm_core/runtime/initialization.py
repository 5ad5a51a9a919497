"""Initial weights from a generator of their own instead of torch's global one, which all threads share.

The initializers of torch's modules draw from the global generator and take no other one. `drawing_from` gives its own
generator to every random function of torch that is called in the block. The numbers are those that the same functions
draw after `torch.manual_seed(seed)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_RANDOM = {
    *(getattr(nn.init, name) for name in ("kaiming_uniform_", "normal_", "uniform_")),
    *(getattr(torch, name) for name in ("bernoulli", "multinomial", "normal", "rand", "randint", "randn", "randperm")),
    *(getattr(torch.Tensor, name) for name in ("bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_")),
    *(getattr(torch.Tensor, name) for name in ("log_normal_", "multinomial", "normal_", "random_", "uniform_")),
}
"""The functions of torch that take a `generator`, and the initializers that hide theirs from modes."""


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Draws all random numbers on the CPU in the block, in this thread, from a new generator.

    Args:
        seed: 0 ≤ `seed` < 2**63.
    """
    with _Drawing(torch.Generator().manual_seed(seed)):
        yield


class _Drawing(TorchFunctionMode):
    """Passes a generator to random functions that were called without one. Modes apply to one thread only."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `func`, with the generator if it is random."""
        arguments = dict(kwargs or {})
        if func in _RANDOM and arguments.get("generator") is None and not _is_elsewhere([*args, *arguments.values()]):
            arguments["generator"] = self._generator
        return func(*args, **arguments)


def _is_elsewhere(values: Sequence[Any]) -> bool:
    """Whether a tensor among the arguments is not on the CPU, such as a weight without storage."""
    return any(isinstance(value, torch.Tensor) and value.device.type != "cpu" for value in values)


@contextmanager
def without_storage() -> Iterator[None]:
    """Builds modules without memory for their weights, to compare names and shapes with a file first."""
    with torch.device("meta"), _Skipping():
        yield


class _Skipping(TorchFunctionMode):
    """Skips random initial values: a weight without storage has none, and torch takes 2 s to find that out."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `func`, unless it changes a tensor at random."""
        arguments = dict(kwargs or {})
        if func in _RANDOM and func.__name__.endswith("_"):
            return args[0] if args else arguments["tensor"]
        return func(*args, **arguments)
