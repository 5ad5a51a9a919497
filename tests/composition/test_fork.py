"""Forks: same output, own weights, and self-contained folders."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders.embedder import Base
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import CompositionError, ConfigError
from tests.composition.nests import counted, over, pair, tower
from tests.encoders.shapes import ATTENTION, CAUSAL, CONFIGS, SMALL, embedder, text

WORDS = CONFIGS["hourglass-word"]


def bases() -> dict[str, Base]:
    """Bases to fork from, by kind."""
    words = embedder(WORDS)
    both = ComposedModel(words, [over(words, "first", WORDS), over(words, "second", WORDS)], "both", "weighted_sum")
    return {"embedder": embedder(SMALL), "words": words, "composition": both, "tower": tower(embedder(SMALL))}


def train(fork: Component, base: Base) -> None:
    """Two training steps, for all weights that require a gradient."""
    encoder = OverBase(base, fork).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
    for _ in range(2):
        loss = (encoder(text(15)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", bases())
def test_a_fork_has_the_same_output_and_needs_no_base(kind: str) -> None:
    base = bases()[kind]
    part = over(base, "part", WORDS)
    before = [(name, weight.clone(), weight.requires_grad) for name, weight in base.named_parameters()]
    base.freeze()
    generator = torch.get_rng_state()
    fork = part.fork(base)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(OverBase(base, fork)(text(15)), OverBase(base, part)(text(15)))
    other = embedder(SMALL, seed=9)  # same vocabulary
    assert torch.equal(ComposedModel(other, [fork])(text(15)), ComposedModel(base, [part])(text(15)))
    for ids in (text(0), text(1)):
        assert torch.equal(OverBase(other, fork)(ids), OverBase(base, part)(ids))
    with counted(base, other) as calls:
        ComposedModel(other, [fork, over(other, "plain")])(text(15))
    assert calls == [0, 1]
    assert all(weight.requires_grad for weight in fork.parameters())
    assert not any(weight.requires_grad for weight in base.parameters())
    assert all(torch.equal(weight, dict(base.named_parameters())[name]) for name, weight, _ in before)
    assert part.card.independent is None and part.card.base_digest == base.digest


@pytest.mark.parametrize("kind", bases())
def test_training_a_fork_changes_neither_the_base_nor_other_parts(kind: str, tmp_path: Path) -> None:
    base = bases()[kind]
    digest, part, sibling = base.digest, over(base, "part", WORDS), over(base, "sibling")
    fork = part.fork(base)
    model = ComposedModel(base, [fork, sibling, over(base, "third")])
    before, weights = model.features(text(15)), part.digest
    initial = {name: weight.clone() for name, weight in fork.named_parameters()}
    train(fork, base)
    after = model.features(text(15))
    assert torch.equal(before["sibling"], after["sibling"]) and not torch.equal(before["part"], after["part"])
    assert base.digest == digest and part.digest == weights
    own = fork.own_base
    assert own is not None and own.digest != digest
    # Only tables can stay unchanged: n-grams and bytes that do not occur in the text get no gradient.
    unchanged = [name for name, weight in fork.named_parameters() if torch.equal(weight, initial[name])]
    assert all("ngrams" in name or "characters" in name or "places" in name for name in unchanged)

    save(model, tmp_path)
    again = load_composition(tmp_path)
    assert torch.equal(again(text(15)), model(text(15)))
    loaded = again.components["part"]
    assert isinstance(loaded, Component) and loaded.own_base is not None
    assert loaded.card == fork.card and loaded.digest == fork.digest
    assert again.digest == model.digest


def test_a_fork_is_saved_with_its_base(tmp_path: Path) -> None:
    base = embedder(SMALL)
    save(over(base, "part").fork(base), tmp_path)
    card = read_json(tmp_path / "component.json")
    assert card["format"] == "cclm-component-2" and card["base_digest"] is None
    assert card["independent"] == {"kind": "fork", "of": base.digest}
    assert (tmp_path / "base" / "embedder.safetensors").is_file()
    with safe_open(tmp_path / "component.safetensors", "pt") as weights:
        assert {name.split(".")[0] for name in weights.keys()} == {"body"}  # noqa: SIM118


@pytest.mark.parametrize("independent", [False, True])
def test_other_components_keep_the_first_format(independent: bool, tmp_path: Path) -> None:
    save(over(embedder(SMALL), "part", independent=independent), tmp_path)
    card = read_json(tmp_path / "component.json")
    assert card["format"] == "cclm-component-1"
    assert set(card["independent"] or {}) == ({"num_ids", "embedding"} if independent else set())


def test_components_without_a_base_or_with_another_one_cannot_be_forked() -> None:
    base, other = embedder(SMALL), embedder(SMALL, seed=2)
    part = over(base, "part")
    for independent in (over(base, "own", independent=True), part.fork(base)):
        with pytest.raises(
            CompositionError, match=r"cannot fork the component '\w+' \(attention, .*\): it is already independent"
        ):
            independent.fork(base)
    with pytest.raises(CompositionError, match=rf"expected {base.digest[:12]}, got {other.digest[:12]}"):
        part.fork(other)
    card = part.fork(base).card
    with pytest.raises(CompositionError, match=r"needs its own copy of a base: .* got no base"):
        Component(card)
    with pytest.raises(CompositionError, match=r"got the base \(hourglass, causal: false\)"):
        Component(part.card, base)
    with pytest.raises(
        CompositionError,
        match=rf"must have 24 features .* 'pair' .* 48 features and .* {base.preprocessor.digest[:12]}",
    ):
        Component(card, pair(base))
    with pytest.raises(ConfigError, match="only forks have format cclm-component-2"):
        ComponentCard.parse(card.canonical() | {"format": "cclm-component-1"}, "card")


def test_a_fork_of_a_causal_component_is_causal() -> None:
    back, ahead = embedder(CAUSAL["causal-hourglass-4"]), embedder(SMALL)
    fork = over(back, "next", CAUSAL["causal-attention"]).fork(back)
    mixed = ComposedModel(ahead, [fork, over(ahead, "plain")])
    assert fork.causal and not mixed.causal and ComposedModel(ahead, [fork]).causal
    changed = text(20)
    changed[0, 12] = 260 + (changed[0, 12] - 259) % 10
    difference = (mixed.features(text(20))["next"] - mixed.features(changed)["next"]).abs().amax(-1)[0]
    assert (difference[:12] == 0).all() and difference[12] > 0
    with pytest.raises(
        CompositionError, match=r"'next' \(attention, causal: true\) has its own copy of the base \(hourglass, ca"
    ):
        Component(fork.card, ahead)


def test_the_average_of_forks_with_one_origin_can_be_trained(tmp_path: Path) -> None:
    base = embedder(SMALL)
    forks = []
    for name in ("one", "other"):
        part = over(base, name)
        part.card = part.card.model_copy(update={"origin": "0" * 64})
        forks.append(part.fork(base))
        train(forks[-1], base)
    model = ComposedModel(base, forks, fusion="average")
    assert isinstance(model.fusion, Component)
    mean = (
        forks[0].get_parameter("embedding.encoder.skip.weight")
        + forks[1].get_parameter("embedding.encoder.skip.weight")
    ) / 2
    torch.testing.assert_close(model.fusion.get_parameter("embedding.encoder.skip.weight"), mean)
    for trainings in range(2):
        folder = tmp_path / str(trainings)
        folder.mkdir()
        save(model, folder)
        assert (folder / "fusion.safetensors").exists() == (trainings == 1)
        again = load_composition(folder)
        assert torch.equal(again(text(15)), model(text(15))) and again.digest == model.digest
        train(model.fusion, base)
    with pytest.raises(
        CompositionError, match=r"needs parts of the same architecture: 'one' has .*'of': .*'plain' has .*None"
    ):
        ComposedModel(base, [forks[0], over(base, "plain", ATTENTION)], fusion="average")


def test_a_control_of_a_fork_keeps_the_copy_of_the_base() -> None:
    base = embedder(SMALL)
    fork = over(base, "part").fork(base)
    control = fork.untrained(4)
    assert control.own_base is not None and control.own_base is not fork.own_base
    assert control.own_base.digest == base.digest and not control.card.trained
    assert not torch.equal(control.body.get_parameter("enter.weight"), fork.body.get_parameter("enter.weight"))
