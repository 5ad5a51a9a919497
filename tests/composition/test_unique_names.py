"""Weights have one name each, so nested compositions work with safetensors, checkpoints and trainers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cclm_core.composition.composed import ComposedModel
from cclm_core.training.checkpoint import Progress, from_checkpoint, to_checkpoint
from tests.composition.nests import over, pair, tower
from tests.encoders.shapes import SMALL, embedder, text


def base_at_two_depths() -> ComposedModel:
    base = embedder(SMALL)
    inner = pair(base, "inner")
    top = ComposedModel(inner, [over(inner, "top")], "high")
    return ComposedModel(base, [over(base, "plain"), inner, top], "outer")


def a_composition_as_base_and_part() -> ComposedModel:
    inner = pair(embedder(SMALL))
    return ComposedModel(inner, [over(inner, "top"), inner], "outer")


def one_part_twice() -> ComposedModel:
    base = embedder(SMALL)
    part = over(base, "part")
    return ComposedModel(base, {"a": part, "b": part}, fusion="attention")


MODELS = [base_at_two_depths, a_composition_as_base_and_part, one_part_twice, lambda: tower(embedder(SMALL))]


@pytest.mark.parametrize("make", MODELS)
def test_a_state_dict_has_each_weight_once_and_restores_all(make: object, tmp_path: Path) -> None:
    model: ComposedModel = make()  # type: ignore[operator]
    state = model.state_dict()
    assert list(state) == [name for name, _ in model.named_parameters()]
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    before, output = model.digest, model.eval()(text(9))
    save_file(state, tmp_path / "model.safetensors")  # as a trainer does
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert model.digest != before
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert model.digest == before and torch.equal(model(text(9)), output)
    wrapped = torch.nn.ModuleDict({"encoder": model})
    assert list(wrapped.state_dict()) == [f"encoder.{name}" for name in state]
    wrapped.load_state_dict(wrapped.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(dict(list(state.items())[1:]))


@pytest.mark.parametrize("make", MODELS)
def test_a_nested_composition_is_restored_from_a_checkpoint(make: object) -> None:
    model: ComposedModel = make()  # type: ignore[operator]
    model.train_base = True
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(text(9)).square().mean().backward()
    optimizer.step()
    digest, checkpoint = model.digest, to_checkpoint(1, model, optimizer, Progress())
    twin: ComposedModel = make()  # type: ignore[operator]
    assert twin.digest != digest
    from_checkpoint(checkpoint, twin, torch.optim.AdamW(twin.parameters()))
    assert twin.digest == digest
