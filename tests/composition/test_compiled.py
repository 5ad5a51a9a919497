"""Compositions compile once for all lengths, and export with a dynamic length."""

import copy

import pytest
import torch

from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.runtime.errors import ConfigError
from cclm_core.training.module import compile_encoder
from tests.composition.nests import over
from tests.encoders.shapes import ATTENTION, SMALL, embedder, text

LENGTHS = (40, 41, 44, 7)
ENCODERS = {"hourglass": SMALL, "causal-hourglass": SMALL.model_copy(update={"causal": True}), "attention": ATTENTION}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_a_composition_exports_with_a_dynamic_length(encoder: EncoderConfig) -> None:
    base = embedder(encoder)
    model = ComposedModel(base, [over(base, "part", encoder)]).eval()
    dynamic = {"ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=5, max=4096)}}
    program = torch.export.export(
        model, (text(40).repeat(2, 1),), dynamic_shapes=dynamic, prefer_deferred_runtime_asserts_over_guards=True
    )
    for length in LENGTHS:
        ids = text(length, seed=length).repeat(3, 1)
        torch.testing.assert_close(program.module()(ids), model(ids), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_an_embedder_compiles_for_changing_lengths() -> None:
    try:
        compile_encoder(torch.nn.Identity(), torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(str(error))
    torch._dynamo.reset()
    model = embedder(SMALL)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    for length in LENGTHS:
        ids = text(length, seed=length)
        torch.testing.assert_close(compiled(ids), model(ids), atol=1e-5, rtol=0)
