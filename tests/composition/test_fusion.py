"""Fusions: initial output, learning, and parts that are refused."""

from pathlib import Path

import pytest
import torch

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.config import CompositionConfig
from cclm_core.composition.fusion import averaged
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialization
from tests.composition.nests import FUSIONS
from tests.composition.test_composed import component, embedder

IDS = torch.tensor([[260, 261, 262, 0], [263, 260, 0, 0]])


def parts_of(base: Embedder) -> list[Component]:
    return [component(base, "first"), component(base, "second!")]


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_the_initial_output_is_the_mean_of_the_parts(fusion: str) -> None:
    base = embedder()
    parts = parts_of(base)
    model = ComposedModel(base, parts, fusion=fusion)
    assert model.width == 16
    mean = torch.stack(list(model.features(IDS).values())).mean(0)
    torch.testing.assert_close(model(IDS), mean)
    torch.testing.assert_close(ComposedModel(base, parts[:1], fusion=fusion)(IDS), model.features(IDS)["first"])


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_it_learns_to_select_a_part(fusion: str) -> None:
    base = embedder()
    parts = parts_of(base)
    model = ComposedModel(base, parts, fusion=fusion)
    target = model.features(IDS)["second!"].detach()
    optimizer = torch.optim.Adam(model.fusion.parameters(), lr=0.03)
    losses = []
    for _ in range(200):
        loss = (model(IDS) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_can_be_saved_and_loaded_and_does_not_change_parts(fusion: str, tmp_path: Path) -> None:
    base = embedder()
    parts = same_origin(base)
    before = [part.digest for part in parts]
    model = ComposedModel(base, parts, "pair", fusion).eval()
    for parameter in model.fusion.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "saved"
    folder.mkdir()
    save(model, folder)
    again = load_composition(folder)
    assert again.card == model.card
    assert torch.equal(again(IDS), model(IDS))
    assert [part.digest for part in parts] == before


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_parts_of_different_widths_are_refused(fusion: str) -> None:
    base = embedder()
    with pytest.raises(CompositionError, match=f"{fusion} needs parts of equal width, got .*'wide': 24.* Use concat"):
        ComposedModel(base, [component(base, "first"), component(base, "wide", 24)], fusion=fusion)


def same_origin(base: Embedder) -> list[Component]:
    """Two parts with the same initial weights that were then changed differently."""
    parts = []
    for number, name in enumerate(("first", "other")):  # the seed is the length of the name
        part = component(base, name)
        part.card = part.card.model_copy(update={"origin": part.digest})
        with torch.no_grad(), seeded_initialization(number):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        parts.append(part)
    return parts


def test_weights_with_one_origin_are_averaged() -> None:
    base = embedder()
    parts = same_origin(base)
    model = ComposedModel(base, parts, fusion="average")
    assert model.width == 16
    mean = averaged({part.name: part for part in parts}).state_dict()
    for name, tensor in parts[0].state_dict().items():
        torch.testing.assert_close(mean[name], (tensor + parts[1].state_dict()[name]) / 2)
    assert list(model.features(IDS)) == ["first", "other"]
    alone = ComposedModel(base, parts[:1], fusion="average")
    assert torch.equal(alone(IDS), alone.features(IDS)["first"])


def test_parts_with_other_origins_or_architectures_are_not_averaged() -> None:
    base = embedder()
    first, second = same_origin(base)
    stranger = component(base, "stranger")
    with pytest.raises(CompositionError, match=r"'first' started from .*, 'stranger' from unknown weights"):
        ComposedModel(base, [first, stranger], fusion="average")
    elsewhere = component(base, "else")
    elsewhere.card = elsewhere.card.model_copy(update={"origin": "0" * 64})
    with pytest.raises(CompositionError, match=r"'other' started from .*, 'else' from 000000000000"):
        ComposedModel(base, [second, elsewhere], fusion="average")
    with pytest.raises(CompositionError, match="needs parts of the same architecture"):
        ComposedModel(base, [first, component(base, "wide", 24)], fusion="average")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_supports_any_length_and_ignores_padding(fusion: str) -> None:
    base = embedder()
    model = ComposedModel(base, same_origin(base), fusion=FUSIONS[fusion]())
    assert model.card.canonical()["fusion"] == fusion
    for length in (0, 1, 4):
        ids = IDS[:, :length]
        features = model(ids)
        assert features.shape == (2, length, model.width)
        padded = model(torch.nn.functional.pad(ids, (0, 3)))
        torch.testing.assert_close(padded[:, :length], features, atol=1e-5, rtol=1e-5)
        model(torch.nn.functional.pad(ids, (0, 3))).sum().backward()
    parts = sorted(span.stop - span.start for span in model.columns.values())
    assert parts == ([16, 16] if fusion == "concatenation" else [])


def test_a_fusion_is_configured_by_name_or_mapping() -> None:
    for fusion in ("attention", {"kind": "attention"}, FUSIONS["attention"]()):
        config = CompositionConfig.parse({"parts": ["a"], "fusion": fusion}, "compositions.x")
        assert config.fusion == FUSIONS["attention"]()
        assert config.canonical()["fusion"] == "attention"
    assert CompositionConfig.parse({"parts": ["a"]}, "compositions.x").fusion.kind == "concatenation"
    base = embedder()
    with pytest.raises(ConfigError, match=r"the composition 'pair': fusion.* got 'atention'"):
        ComposedModel(base, parts_of(base), "pair", "atention")
    with pytest.raises(ConfigError, match=r"compositions\.x.*fusion"):
        CompositionConfig.parse({"parts": ["a"], "fusion": "atention"}, "compositions.x")
    with pytest.raises(ConfigError, match="at least one component"):
        CompositionConfig.parse({"parts": []}, "compositions.x")
    with pytest.raises(ConfigError, match="must be unique, got 'a' twice"):
        CompositionConfig.parse({"parts": ["a", "b", "a"]}, "compositions.x")
