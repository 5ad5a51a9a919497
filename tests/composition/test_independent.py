"""Causal and independent components: what may stand over which base, and what an independent one carries."""

from pathlib import Path

import pytest
import torch

from cclm_core.composition import Component, ComponentCard, OverBase, features_of
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialisation
from tests.encoders.shapes import ATTENTION, CAUSAL, CONFIGS, REACH, embedder, seen, text

LOOKS_BACK, LOOKS_AROUND = CAUSAL["causal-hourglass-4"], CONFIGS["hourglass-4"]


def component(base: Embedder, name: str, encoder: EncoderConfig, independent: bool = False) -> Component:
    with seeded_initialisation(len(name)):
        return Component(ComponentCard.over(base, name, "entities", encoder, independent)).eval()


@pytest.mark.parametrize("name", [*CONFIGS, *CAUSAL])
def test_every_encoder_can_be_a_component_over_a_causal_base_and_beside_it(name: str) -> None:
    base, encoder = embedder(LOOKS_BACK), (CONFIGS | CAUSAL)[name]
    over, beside = (component(base, f"part-{own}", encoder, own) for own in (False, True))
    features = ComposedModel(base, [over, beside])(text(11))
    assert features.shape == (1, 11, 48) and (features != 0).any(-1).all()
    assert OverBase(base, over).causal is (name in CAUSAL)


def test_a_causal_component_over_a_base_that_looks_ahead_is_refused_and_both_are_named() -> None:
    base = embedder(LOOKS_AROUND)
    both = rf"'next' \(attention, .*\) cannot read the base \(hourglass, causal: false\), digest {base.digest[:12]}"
    with pytest.raises(CompositionError, match=both):
        component(base, "next", CAUSAL["causal-attention"])
    card = ComponentCard.over(base, "next", "entities", ATTENTION)
    forged = Component(card.model_copy(update={"encoder": CAUSAL["causal-attention"]}))
    with pytest.raises(CompositionError, match=both):
        ComposedModel(base, [forged])
    with pytest.raises(CompositionError, match="independent: true"):
        OverBase(base, forged)


def test_an_independent_causal_component_beside_a_base_that_looks_ahead_sees_nothing_ahead() -> None:
    base, ids = embedder(LOOKS_AROUND), text(20)
    model = ComposedModel(base, [component(base, "shared", ATTENTION), component(base, "next", LOOKS_BACK, True)])
    other = ids.clone()
    other[0, 12] = 260 + (ids[0, 12] - 259) % 10
    before, after = model.features(ids), model.features(other)
    moved = {name: (before[name] - after[name]).abs().amax(-1)[0] for name in before}
    assert (moved["shared"][:12] > 0).any()
    assert (moved["next"][:12] == 0).all() and moved["next"][12] > 0


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("independent", [False, True])
def test_gradients_reach_a_causal_component_from_everything_before_and_from_nothing_behind(
    name: str, independent: bool
) -> None:
    base = embedder(CAUSAL["causal-attention"] if not independent else LOOKS_AROUND)
    part = component(base, "next", CAUSAL[name], independent)
    for length, padding in ((17, 0), (22, 3)):
        embedding = part.embedding or base.embedding
        ids = torch.nn.functional.pad(text(length), (0, padding))
        gradients = seen(lambda ids: features_of(base, {"next": part}, ids)["next"], embedding, ids)
        assert (gradients.triu(1) == 0).all()
        reach = REACH.get(name, length) if independent else length
        within = torch.ones_like(gradients[:length, :length]).tril().triu(-reach) > 0
        assert (gradients[:length, :length][within] > 0).all()


def test_an_independent_component_does_not_depend_on_the_base_and_loads_with_its_embedding(tmp_path: Path) -> None:
    base, other = embedder(LOOKS_AROUND, seed=1), embedder(LOOKS_AROUND, seed=2)
    part = component(base, "own", LOOKS_BACK, True)
    save(ComposedModel(base, [part, component(base, "shared", ATTENTION)]), tmp_path)
    loaded = load_composition(tmp_path)
    assert torch.equal(loaded.features(text(9))["own"], ComposedModel(other, [part])(text(9)))
    assert part.card.base_digest is None
    with pytest.raises(CompositionError, match="must have been trained on this base"):
        ComposedModel(other, [component(base, "shared", ATTENTION)])


def test_only_the_embedding_of_an_independent_component_is_trained_with_it() -> None:
    base = embedder(LOOKS_AROUND)
    for independent in (False, True):
        student = OverBase(base, component(base, "part", LOOKS_AROUND, independent)).train()
        student(text(9)).sum().backward()
        trained = {name.split(".")[1] for name, weight in student.named_parameters() if weight.grad is not None}
        assert trained == ({"body", "embedding"} if independent else {"body"})
    assert all(weight.grad is None for weight in base.parameters())


def test_an_independent_component_of_another_vocabulary_is_refused() -> None:
    base = embedder(LOOKS_AROUND)
    part = component(base, "own", LOOKS_BACK, True)
    stranger = Component(part.card.model_copy(update={"preprocessor_digest": "0" * 64}))
    with pytest.raises(CompositionError, match="must share the vocabulary of the base"):
        ComposedModel(base, [stranger])


@pytest.mark.parametrize(("key", "value"), [("base_digest", "0" * 64), ("independent", None)])
def test_a_card_says_either_its_base_or_its_embedding(key: str, value: str | None) -> None:
    base = embedder(LOOKS_AROUND)
    values = ComponentCard.over(base, "own", "entities", LOOKS_BACK, True).canonical() | {key: value}
    with pytest.raises(ConfigError, match="either the digest of its base or, if independent, an embedding"):
        ComponentCard.parse(values, "card")
