"""Weights of every floating type, second derivatives, `torch.func`, and ids that are none."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.digest import weights_digest
from cclm_core.runtime.errors import DataError
from tests.composition.nests import over
from tests.encoders.shapes import CAUSAL, CONFIGS, SMALL, embedder, text

TOLERANCES = {torch.float64: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.4}


def reads_contexts(name: str) -> bool:
    """Whether a weight reads contexts, and gets no gradient without them."""
    return "context_encoder." in name or "context_norm." in name


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("config", [*CONFIGS.values(), *CAUSAL.values()], ids=[*CONFIGS, *CAUSAL])
def test_weights_of_any_precision_work(config: EncoderConfig, precision: torch.dtype) -> None:
    base = embedder(config)
    model = ComposedModel(base, [over(base, "part", config)], fusion="weighted_sum").eval()
    other = copy.deepcopy(model).to(precision)
    features = other(text(9))
    assert features.dtype == (torch.float64 if precision == torch.float64 else torch.float32)
    torch.testing.assert_close(features.float(), model(text(9)), atol=TOLERANCES[precision], rtol=0)
    features.square().mean().backward()
    weights = dict(other.part("part").named_parameters())
    assert all(weight.grad is not None for name, weight in weights.items() if not reads_contexts(name))
    assert other(text(0)).shape == (1, 0, model.width) and other.digest != model.digest


def test_digests_cover_the_type_and_those_of_float32_do_not_change() -> None:
    module = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    assert weights_digest(module) == "6e4a94352a811a3df6f3854d11645c2b2427dbb5e36367180809ebdeeafbf962"
    digests = {weights_digest(copy.deepcopy(module).to(kind)) for kind in (torch.float32, *TOLERANCES)}
    assert len(digests) == 4


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_gradients_can_be_differentiated_again(config: EncoderConfig) -> None:
    base, ids = embedder(config), text(9)
    target = torch.randn(1, 9, base.width, generator=torch.Generator().manual_seed(1))
    loss = (base(ids) - target).square().mean()
    (gradient,) = torch.autograd.grad(loss, [base.embedding.characters.weight], create_graph=True)
    gradient.square().sum().backward()
    weights = {name: weight.grad for name, weight in base.encoder.named_parameters() if not reads_contexts(name)}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in weights.values())


def test_gradients_of_functions_equal_those_of_backward() -> None:
    base, ids = embedder(SMALL), text(9)
    weights = dict(base.named_parameters())

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        output: torch.Tensor = torch.func.functional_call(base, values, (ids,))
        return output.square().mean()

    gradients = torch.func.grad(loss)(weights)
    loss(weights).backward()
    for name, weight in weights.items():
        torch.testing.assert_close(gradients[name], weight.grad)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[1, 2]], dtype=torch.uint16), None),
        (torch.tensor([[1, 2]], dtype=torch.int32), None),
        (np.array([[1, 2]], dtype=np.uint16), None),
        (torch.tensor([[1, 10**6]]), r"below 283, the size of the vocabulary, got 1000000 at \[0, 1\]"),
        (torch.tensor([[-1, 2]]), r"at least 0 .* got -1 at \[0, 0\]"),
        (torch.tensor([[1.0, 2.0]]), "must be whole numbers .* got torch.float32"),
        (torch.tensor([[True, False]]), "got torch.bool"),
        (np.array([[1.0]]), "got an array of float64"),
        ("cab", "must be a tensor of whole numbers, got str"),
        ([1, 2], "must be a tensor of whole numbers, got list"),
        (torch.ones(1, 1, 1, dtype=torch.int64), r"must have the shape \(batch, length\), got \(1, 1, 1\)"),
    ],
)
def test_ids_are_checked(ids: Any, message: str | None) -> None:
    base = embedder(SMALL)
    model = ComposedModel(base, [over(base, "part"), over(base, "own", independent=True)]).eval()
    if message is None:
        assert torch.equal(model(ids), model(torch.tensor([[1, 2]])))
        return
    with pytest.raises(DataError, match=message):
        model(ids)
    if isinstance(ids, torch.Tensor):
        with pytest.raises(DataError, match=message):
            base(ids)
