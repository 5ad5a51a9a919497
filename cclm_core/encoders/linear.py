"""A linear layer whose single-precision products run in oneDNN on x86 CPUs.

Torch sends single-precision products to Intel's MKL, which reaches half the speed of oneDNN on AMD processors with
AVX-512: on such an EPYC, 2048 x 256 x 1024 ran at 90 GFLOP/s in MKL and at 217 in oneDNN; with AVX2 both ran at 85
(torch 2.13). In other precisions (bf16 by autocast, the default in training) and on other devices this is
`torch.nn.Linear`.

The operator is not part of torch's public API, so it is tested before its first use; if it is missing or wrong in
another version of torch, `torch.nn.Linear` is used, with a warning.
"""

import warnings
from functools import cache
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


@cache
def _is_operator_right() -> bool:
    """Whether `_times` multiplies a small matrix of integers exactly, also with transposed inputs as in `backward`."""
    left, right = (torch.arange(size * 6, dtype=torch.float32).reshape(size, 6) % 7 for size in (5, 3))
    expected = (left[:, None] * right).sum(-1)
    try:
        with torch.no_grad():
            products = [_times(left, right), _times(left.T.contiguous().T, right.T.contiguous().T)]
    except (AttributeError, RuntimeError, TypeError) as error:  # another name or signature in this version of torch
        problem = str(error).split("\n", 1)[0]
    else:
        if all(torch.equal(product, expected) for product in products):
            return True
        problem = "it gives other products than torch"
    warnings.warn(
        f"torch {torch.__version__}: torch.ops.mkldnn._linear_pointwise cannot be used ({problem}). Products in fp32 "
        "run in torch.nn.Linear instead, which is slower on AMD processors.",
        stacklevel=2,
    )
    return False


def _is_for_onednn(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _HAS_BOTH
        and _is_operator_right()
    )
