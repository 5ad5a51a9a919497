"""A simulated second device: code that mixes devices fails here as it would on a GPU.

Tensors on `ELSEWHERE` are computed on the CPU. An operation that mixes one with a CPU tensor raises, and so does
reading one with NumPy. The device's name is `meta`, which torch has on every machine; unlike real meta tensors, these
have values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
_BETWEEN = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_CPU = torch.device("cpu")


class Moved(Tensor):
    """A tensor on the simulated device; `inner` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Moved":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        moved: Moved = Tensor._make_wrapper_subclass(cls, inner.shape, device=ELSEWHERE, **layout)  # type: ignore[attr-defined]
        moved.inner = inner
        return moved

    def tolist(self) -> list[Any]:
        """The values, as with a tensor on a GPU."""
        values: list[Any] = self.inner.tolist()
        return values

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, values: Any = (), options: Any = None) -> Any:
        return _compute(function, values, options or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, _: Any, values: Any = (), options: Any = None) -> Any:
        return _compute(function, values, options or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Inside this context, tensors can be created on the simulated device and moved to it."""
    with _Mode():
        yield ELSEWHERE


def _compute(function: Callable[..., Any], values: Any, options: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_flatten((values, options))[0] if isinstance(leaf, Tensor)]
    moved = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, Moved)}
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Moved) and tensor.ndim]
    if moved and on_cpu and function not in _BETWEEN:
        raise RuntimeError(f"{function}: all tensors must be on one device; these are on the CPU: {on_cpu}")
    target = options.get("device") or (ELSEWHERE if moved else _CPU)
    values, options = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Moved) else leaf, (values, options))
    result = function(*values, **(options | ({"device": _CPU} if options.get("device") else {})))
    if target != ELSEWHERE:
        return result
    # An in-place operation returns its own input. Views of weights must be created outside of inference mode.
    with torch.inference_mode(False):
        return tree_map(lambda leaf: moved.get(id(leaf), Moved(leaf)) if isinstance(leaf, Tensor) else leaf, result)
