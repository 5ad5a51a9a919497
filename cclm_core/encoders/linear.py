"""A linear layer that uses oneDNN for fp32 on x86 CPUs.

Torch uses Intel's MKL for fp32 matrix products, which reaches half the speed of oneDNN on AMD processors with AVX-512:
on such an EPYC, 2048 x 256 x 1024 ran at 90 GFLOP/s in MKL and at 217 in oneDNN; with AVX2 both ran at 85 (torch 2.13).
In other precisions (bf16 by autocast, the default in training) and on other devices this is `torch.nn.Linear`.

The operator is not part of torch's public API, so it is tested before its first use. If it is missing or wrong, the
layer falls back to `torch.nn.Linear` with a warning.
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
        if not _uses_onednn(input, self.weight):
            return super().forward(input)
        rows = input.reshape(-1, self.in_features)
        output: Tensor = _MatMul.apply(rows, self.weight)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            output = output + self.bias
        return output.view(*input.shape[:-1], self.out_features)


class _MatMul(torch.autograd.Function):
    """`rows` (N, D_in) @ `weight`.T (D_in, D_out)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        """`rows` @ `weight`.T, (N, D_out)."""
        ctx.save_for_backward(rows, weight)
        return _matmul(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of `rows` and `weight`, None where not needed."""
        rows, weight = ctx.saved_tensors
        rows_gradient = _matmul(gradient, weight.T) if ctx.needs_input_grad[0] else None
        weight_gradient = _matmul(gradient.T, rows.T) if ctx.needs_input_grad[1] else None
        return rows_gradient, weight_gradient


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """`left` (N, K) @ `right`.T (K, M)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product


@cache
def _is_operator_correct() -> bool:
    """Whether `_matmul` is exact for small integer matrices, including transposed inputs as in `backward`."""
    left, right = (torch.arange(size * 6, dtype=torch.float32).reshape(size, 6) % 7 for size in (5, 3))
    expected = (left[:, None] * right).sum(-1)
    try:
        with torch.no_grad():
            products = [_matmul(left, right), _matmul(left.T.contiguous().T, right.T.contiguous().T)]
    except (AttributeError, RuntimeError, TypeError) as error:  # another name or signature in this version of torch
        problem = str(error).split("\n", 1)[0]
    else:
        if all(torch.equal(product, expected) for product in products):
            return True
        problem = "its results differ from torch"
    warnings.warn(
        f"torch {torch.__version__}: torch.ops.mkldnn._linear_pointwise cannot be used ({problem}). Using "
        "torch.nn.Linear for fp32, which is slower on AMD processors with AVX-512.",
        stacklevel=2,
    )
    return False


def _uses_onednn(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _HAS_BOTH
        and _is_operator_correct()
    )
