"""Forks: the same outputs as before, weights of their own, saved with all that they need."""

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
    """What a component may be forked from."""
    words = embedder(WORDS)
    both = ComposedModel(words, [over(words, "first", WORDS), over(words, "second", WORDS)], "both", "weighted_sum")
    return {"embedder": embedder(SMALL), "words": words, "composition": both, "tower": tower(embedder(SMALL))}


def trained(fork: Component, base: Base) -> None:
    """Two steps of a training that moves every weight that asks for it."""
    student = OverBase(base, fork).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    for _ in range(2):
        loss = (student(text(15)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", bases())
def test_a_fork_says_exactly_the_same_and_needs_no_base(kind: str) -> None:
    base = bases()[kind]
    part = over(base, "part", WORDS)
    before = [(name, weight.clone(), weight.requires_grad) for name, weight in base.named_parameters()]
    base.freeze()
    generator = torch.get_rng_state()
    fork = part.fork(base)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(OverBase(base, fork)(text(15)), OverBase(base, part)(text(15)))
    other = embedder(SMALL, seed=9)  # of the same vocabulary
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
def test_a_fork_is_trained_without_touching_the_base_or_another_part(kind: str, tmp_path: Path) -> None:
    base = bases()[kind]
    digest, part, sibling = base.digest, over(base, "part", WORDS), over(base, "sibling")
    fork = part.fork(base)
    model = ComposedModel(base, [fork, sibling, over(base, "third")])
    before, weights = model.features(text(15)), part.digest
    at_first = {name: weight.clone() for name, weight in fork.named_parameters()}
    trained(fork, base)
    after = model.features(text(15))
    assert torch.equal(before["sibling"], after["sibling"]) and not torch.equal(before["part"], after["part"])
    assert base.digest == digest and part.digest == weights
    own = fork.own_base
    assert own is not None and own.digest != digest
    # Hashed n-grams and bytes that the text does not have get no gradient; whatever is no table moves at all depths.
    still = [name for name, weight in fork.named_parameters() if torch.equal(weight, at_first[name])]
    assert all("ngrams" in name or "characters" in name or "places" in name for name in still)

    save(model, tmp_path)
    again = load_composition(tmp_path)
    assert torch.equal(again(text(15)), model(text(15)))
    loaded = again.components["part"]
    assert isinstance(loaded, Component) and loaded.own_base is not None
    assert loaded.card == fork.card and loaded.digest == fork.digest
    assert again.digest == model.digest


def test_a_fork_is_saved_beside_its_base_in_files_of_both(tmp_path: Path) -> None:
    base = embedder(SMALL)
    save(over(base, "part").fork(base), tmp_path)
    card = read_json(tmp_path / "component.json")
    assert card["format"] == "cclm-component-2" and card["base_digest"] is None
    assert card["independent"] == {"kind": "fork", "of": base.digest}
    assert (tmp_path / "base" / "embedder.safetensors").is_file()
    with safe_open(tmp_path / "component.safetensors", "pt") as weights:
        assert {name.split(".")[0] for name in weights.keys()} == {"body"}  # noqa: SIM118


@pytest.mark.parametrize("independent", [False, True])
def test_the_card_of_what_is_no_fork_is_as_it_was(independent: bool, tmp_path: Path) -> None:
    save(over(embedder(SMALL), "part", independent=independent), tmp_path)
    card = read_json(tmp_path / "component.json")
    assert card["format"] == "cclm-component-1"
    assert set(card["independent"] or {}) == ({"num_ids", "embedding"} if independent else set())


def test_what_has_no_base_to_copy_or_another_one_is_refused() -> None:
    base, other = embedder(SMALL), embedder(SMALL, seed=2)
    part = over(base, "part")
    for independent in (over(base, "own", independent=True), part.fork(base)):
        with pytest.raises(
            CompositionError, match=r"can be forked; the component '\w+' \(attention, .*\) is independent"
        ):
            independent.fork(base)
    with pytest.raises(CompositionError, match=rf"trained on {base.digest[:12]}, this one is {other.digest[:12]}"):
        part.fork(other)
    card = part.fork(base).card
    with pytest.raises(CompositionError, match=r"built with its copy of a base: .* was given none"):
        Component(card)
    with pytest.raises(CompositionError, match=r"was given the base \(hourglass, causal: false\)"):
        Component(part.card, base)
    with pytest.raises(
        CompositionError, match=rf"must have 24 features .* 'pair' .* has 48 and {base.preprocessor.digest[:12]}"
    ):
        Component(card, pair(base))
    with pytest.raises(ConfigError, match="a fork, and no other, has the format cclm-component-2"):
        ComponentCard.parse(card.canonical() | {"format": "cclm-component-1"}, "card")


def test_a_fork_is_causal_with_its_base() -> None:
    back, ahead = embedder(CAUSAL["causal-hourglass-4"]), embedder(SMALL)
    fork = over(back, "next", CAUSAL["causal-attention"]).fork(back)
    beside = ComposedModel(ahead, [fork, over(ahead, "plain")])
    assert fork.causal and not beside.causal and ComposedModel(ahead, [fork]).causal
    other = text(20)
    other[0, 12] = 260 + (other[0, 12] - 259) % 10
    moved = (beside.features(text(20))["next"] - beside.features(other)["next"]).abs().amax(-1)[0]
    assert (moved[:12] == 0).all() and moved[12] > 0
    with pytest.raises(
        CompositionError, match=r"'next' \(attention, causal: true\) carries the base \(hourglass, causal: f"
    ):
        Component(fork.card, ahead)


def test_forks_of_one_origin_are_averaged_and_then_trained_as_one(tmp_path: Path) -> None:
    base = embedder(SMALL)
    forks = []
    for name in ("one", "other"):
        part = over(base, name)
        part.card = part.card.model_copy(update={"origin": "0" * 64})
        forks.append(part.fork(base))
        trained(forks[-1], base)
    model = ComposedModel(base, forks, fusion="average")
    assert isinstance(model.fusion, Component)
    mean = (
        forks[0].get_parameter("embedding.encoder.skip.weight")
        + forks[1].get_parameter("embedding.encoder.skip.weight")
    ) / 2
    torch.testing.assert_close(model.fusion.get_parameter("embedding.encoder.skip.weight"), mean)
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        save(model, folder)
        assert (folder / "fusion.safetensors").exists() == (number == 1)
        again = load_composition(folder)
        assert torch.equal(again(text(15)), model(text(15))) and again.digest == model.digest
        trained(model.fusion, base)
    with pytest.raises(CompositionError, match=r"needs parts of one shape: 'one' has .*'of': .*'plain' has .*None"):
        ComposedModel(base, [forks[0], over(base, "plain", ATTENTION)], fusion="average")


def test_a_control_of_a_fork_keeps_the_copy_of_the_base() -> None:
    base = embedder(SMALL)
    fork = over(base, "part").fork(base)
    control = fork.untrained(4)
    assert control.own_base is not None and control.own_base is not fork.own_base
    assert control.own_base.digest == base.digest and not control.card.trained
    assert not torch.equal(control.body.get_parameter("enter.weight"), fork.body.get_parameter("enter.weight"))
