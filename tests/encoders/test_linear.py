"""The linear layer of the encoders equals torch's, and uses oneDNN only if that works."""

import copy

import pytest
import torch
from torch import Tensor, nn

from cclm_core.encoders import linear
from cclm_core.encoders.linear import Linear


def both(bias: bool) -> tuple[Linear, nn.Linear]:
    """Our layer, and torch's in double precision with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ours = Linear(24, 40, bias=bias)
    theirs = nn.Linear(24, 40, bias=bias).double()
    theirs.load_state_dict({name: value.double() for name, value in ours.state_dict().items()})
    return ours, theirs


def gradients(layer: nn.Linear, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output for `rows`, and the gradients of the sum of its cubes by rows and parameters."""
    rows = rows.clone().requires_grad_()
    output = layer(rows)
    return output, list(torch.autograd.grad((output**3).sum(), [rows, *layer.parameters()]))


@pytest.mark.parametrize("shape", [(24,), (1, 24), (3, 5, 24), (0, 24), (2, 0, 24)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_those_of_torch(shape: tuple[int, ...], bias: bool) -> None:
    ours, theirs = both(bias)
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    output, our_gradients = gradients(ours, rows)
    expected, their_gradients = gradients(theirs, rows.double())
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    for actual, exact in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(actual.double(), exact, rtol=1e-4, atol=1e-4)


def test_non_contiguous_rows_are_supported() -> None:
    ours, theirs = both(bias=False)
    rows = torch.randn(24, 7, generator=torch.Generator().manual_seed(2)).T
    torch.testing.assert_close(ours(rows).double(), theirs(rows.double()), rtol=1e-5, atol=1e-5)


def test_a_frozen_weight_gets_no_gradient_but_its_input_does() -> None:
    ours, _ = both(bias=False)
    ours.requires_grad_(False)
    rows = torch.randn(4, 24, requires_grad=True)
    ours(rows).sum().backward()
    assert ours.weight.grad is None
    torch.testing.assert_close(rows.grad, ours.weight.sum(0).expand(4, 24))


def test_other_precisions_use_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(linear, "_matmul", refuse)
    ours, _ = both(bias=False)
    rows = torch.randn(4, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(rows).dtype == torch.bfloat16
    assert copy.deepcopy(ours).double()(rows.double()).dtype == torch.float64


def test_an_operator_that_is_missing_or_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Tensor) -> Tensor:
        raise AttributeError("no such operator")

    def wrong(left: Tensor, right: Tensor) -> Tensor:
        return left @ right.T + 1

    ours, theirs = both(bias=True)
    rows = torch.randn(4, 24, generator=torch.Generator().manual_seed(2))
    for operator, problem in ((missing, "no such operator"), (wrong, "its results differ from torch")):
        linear._is_operator_correct.cache_clear()
        monkeypatch.setattr(linear, "_matmul", operator)
        with pytest.warns(UserWarning, match=rf"cannot be used \({problem}\)"):
            output = ours(rows)
        torch.testing.assert_close(output.double(), theirs(rows.double()), rtol=1e-5, atol=1e-5)
    linear._is_operator_correct.cache_clear()
