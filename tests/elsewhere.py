"""A second device, pretended: what would fail on a GPU fails here too, on a machine without one.

Tensors that were moved `ELSEWHERE` are computed on the CPU, but an operation that takes one of them together with a
tensor that was left behind is refused, as is reading one with NumPy. torch calls the device `meta`, the one that it has
on every machine; unlike torch's own meta tensors these have values.
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
    """A tensor that is elsewhere; `inner` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Moved":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        moved: Moved = Tensor._make_wrapper_subclass(cls, inner.shape, device=ELSEWHERE, **layout)  # type: ignore[attr-defined]
        moved.inner = inner
        return moved

    def tolist(self) -> list[Any]:
        """The values, as a GPU's tensor gives them too."""
        found: list[Any] = self.inner.tolist()
        return found

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, values: Any = (), options: Any = None) -> Any:
        return _compute(function, values, options or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, _: Any, values: Any = (), options: Any = None) -> Any:
        return _compute(function, values, options or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """In the block tensors can be made on the device and moved to it."""
    with _Mode():
        yield ELSEWHERE


def _compute(function: Callable[..., Any], values: Any, options: dict[str, Any]) -> Any:
    found = [one for one in tree_flatten((values, options))[0] if isinstance(one, Tensor)]
    moved = {id(one.inner): one for one in found if isinstance(one, Moved)}
    left = [one for one in found if not isinstance(one, Moved) and one.ndim]
    if moved and left and function not in _BETWEEN:
        raise RuntimeError(f"{function}: tensors must be on one device; left on the CPU: {left}")
    target = options.get("device") or (ELSEWHERE if moved else _CPU)
    values, options = tree_map(lambda one: one.inner if isinstance(one, Moved) else one, (values, options))
    made = function(*values, **(options | ({"device": _CPU} if options.get("device") else {})))
    if target != ELSEWHERE:
        return made
    # What was changed in place comes out as the tensor that it was. A view of a weight must be like it in every mode.
    with torch.inference_mode(False):
        return tree_map(lambda one: moved.get(id(one), Moved(one)) if isinstance(one, Tensor) else one, made)
