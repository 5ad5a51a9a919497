"""Fusions: what each gives at the start, what it learns, what it refuses."""

from pathlib import Path

import pytest
import torch

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.fusion import FusionName, averaged
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import seeded_initialisation
from tests.composition.test_composed import component, embedder

IDS = torch.tensor([[260, 261, 262, 0], [263, 260, 0, 0]])


def parts_of(base: Embedder) -> list[Component]:
    return [component(base, "first"), component(base, "second!")]


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_at_first_it_is_the_mean_and_of_one_part_that_part(fusion: FusionName) -> None:
    base = embedder()
    parts = parts_of(base)
    model = ComposedModel(base, parts, fusion=fusion)
    assert model.width == 16
    mean = torch.stack(list(model.features(IDS).values())).mean(0)
    torch.testing.assert_close(model(IDS), mean)
    torch.testing.assert_close(ComposedModel(base, parts[:1], fusion=fusion)(IDS), model.features(IDS)["first"])


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_it_learns_which_part_to_listen_to(fusion: FusionName) -> None:
    base = embedder()
    parts = parts_of(base)
    model = ComposedModel(base, parts, fusion=fusion)
    wanted = model.features(IDS)["second!"].detach()
    assert model.fusion is not None
    optimizer = torch.optim.Adam(model.fusion.parameters(), lr=0.03)
    first = float("inf")
    for step in range(200):
        loss = (model(IDS) - wanted).square().mean()
        first = min(first, loss.item()) if step == 0 else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first


@pytest.mark.parametrize("fusion", ["concatenation", "weighted_sum", "attention", "average"])
def test_it_saves_and_loads_and_changes_no_part(fusion: FusionName, tmp_path: Path) -> None:
    base = embedder()
    parts = same_origin(base)
    before = [part.digest for part in parts]
    model = ComposedModel(base, parts, "pair", fusion).eval()
    if model.fusion is not None:
        for parameter in model.fusion.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "saved"
    folder.mkdir()
    model.save(folder)
    again = ComposedModel.load(folder)
    assert again.card == model.card
    assert torch.equal(again(IDS), model(IDS))
    assert [part.digest for part in parts] == before


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_parts_of_different_widths_are_refused(fusion: FusionName) -> None:
    base = embedder()
    with pytest.raises(CompositionError, match=f"{fusion} needs parts of one width, got .*'wide': 24.*; use concat"):
        ComposedModel(base, [component(base, "first"), component(base, "wide", 24)], fusion=fusion)


def same_origin(base: Embedder) -> list[Component]:
    """Two parts that started from the same weights and went different ways."""
    parts = []
    for number, name in enumerate(("first", "other")):  # names of one length start alike
        part = component(base, name)
        part.card = part.card.model_copy(update={"origin": part.digest})
        with torch.no_grad(), seeded_initialisation(number):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        parts.append(part)
    return parts


def test_weights_of_one_origin_are_averaged() -> None:
    base = embedder()
    parts = same_origin(base)
    model = ComposedModel(base, parts, fusion="average")
    assert model.width == 16
    mean = averaged(parts).state_dict()
    for name, tensor in parts[0].state_dict().items():
        torch.testing.assert_close(mean[name], (tensor + parts[1].state_dict()[name]) / 2)
    assert list(model.features(IDS)) == ["first", "other"]
    alone = ComposedModel(base, parts[:1], fusion="average")
    assert torch.equal(alone(IDS), alone.features(IDS)["first"])


def test_weights_of_other_origins_and_shapes_are_refused() -> None:
    base = embedder()
    one, other = same_origin(base)
    stranger = component(base, "stranger")
    with pytest.raises(CompositionError, match=r"'first' started from .*, 'stranger' from weights that its card does"):
        ComposedModel(base, [one, stranger], fusion="average")
    elsewhere = component(base, "else")
    elsewhere.card = elsewhere.card.model_copy(update={"origin": "0" * 64})
    with pytest.raises(CompositionError, match=r"'other' started from .*, 'else' from 000000000000"):
        ComposedModel(base, [other, elsewhere], fusion="average")
    with pytest.raises(CompositionError, match="needs parts of one shape"):
        ComposedModel(base, [one, component(base, "wide", 24)], fusion="average")
