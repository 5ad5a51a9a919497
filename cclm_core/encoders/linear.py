"""A linear layer whose single-precision products run in oneDNN on x86 CPUs.

There torch gives single-precision products to Intel's MKL, which leaves AMD's processors at half of what they can do:
on an EPYC, 2048 x 256 x 1024 took 90 GFLOP/s by MKL and 217 by oneDNN, whose convolutions and bfloat16 products torch
uses anyway (torch 2.13). Elsewhere, and in other precisions, it is `torch.nn.Linear`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_HAS_BOTH = torch._C.has_mkl and torch._C._has_mkldnn


class Linear(nn.Linear):
    """`torch.nn.Linear`, with the same parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., D_in) to (..., D_out)."""
        if not _is_for_onednn(input, self.weight):
            return super().forward(input)
        rows = input.reshape(-1, self.in_features)
        mapped: Tensor = _Mapped.apply(rows, self.weight)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            mapped = mapped + self.bias
        return mapped.view(*input.shape[:-1], self.out_features)


class _Mapped(torch.autograd.Function):
    """Rows (N, D_in) times the transpose of a weight (D_out, D_in)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _times(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows = _times(gradient, weight.T) if ctx.needs_input_grad[0] else None
        of_weight = _times(gradient.T, rows.T) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight


def _times(left: Tensor, right: Tensor) -> Tensor:
    """`left` (N, K) times the transpose of `right` (M, K): (N, M)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product


def _is_for_onednn(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _HAS_BOTH
    )
