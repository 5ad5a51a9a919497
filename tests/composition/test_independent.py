"""Causal and independent components: which bases they accept, and what an independent component owns."""

from pathlib import Path

import pytest
import torch

from cclm_core.composition import Component, ComponentCard, OverBase, features_of
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialization
from tests.encoders.shapes import ATTENTION, CAUSAL, CONFIGS, MIN_CONTEXT, embedder, sensitivity, text

CAUSAL_ENCODER, BIDIRECTIONAL = CAUSAL["causal-hourglass-4"], CONFIGS["hourglass-4"]


def component(base: Embedder, name: str, encoder: EncoderConfig, independent: bool = False) -> Component:
    with seeded_initialization(len(name)):
        return Component(ComponentCard.over(base, name, "entities", encoder, independent)).eval()


@pytest.mark.parametrize("name", [*CONFIGS, *CAUSAL])
def test_every_encoder_works_over_a_causal_base_shared_and_independent(name: str) -> None:
    base, encoder = embedder(CAUSAL_ENCODER), (CONFIGS | CAUSAL)[name]
    shared, independent = (component(base, f"part-{own}", encoder, own) for own in (False, True))
    features = ComposedModel(base, [shared, independent])(text(11))
    assert features.shape == (1, 11, 48) and (features != 0).any(-1).all()
    assert OverBase(base, shared).causal is (name in CAUSAL)


def test_a_causal_component_over_a_bidirectional_base_is_refused() -> None:
    base = embedder(BIDIRECTIONAL)
    both = rf"'next' \(attention, .*\) reads the base \(hourglass, causal: false\), digest {base.digest[:12]}"
    with pytest.raises(CompositionError, match=both):
        component(base, "next", CAUSAL["causal-attention"])
    card = ComponentCard.over(base, "next", "entities", ATTENTION)
    forged = Component(card.model_copy(update={"encoder": CAUSAL["causal-attention"]}))
    with pytest.raises(CompositionError, match=both):
        ComposedModel(base, [forged])
    with pytest.raises(CompositionError, match="independent: true"):
        OverBase(base, forged)


def test_an_independent_causal_component_stays_causal_next_to_a_bidirectional_base() -> None:
    base, ids = embedder(BIDIRECTIONAL), text(20)
    model = ComposedModel(base, [component(base, "shared", ATTENTION), component(base, "next", CAUSAL_ENCODER, True)])
    changed = ids.clone()
    changed[0, 12] = 260 + (ids[0, 12] - 259) % 10
    before, after = model.features(ids), model.features(changed)
    difference = {name: (before[name] - after[name]).abs().amax(-1)[0] for name in before}
    assert (difference["shared"][:12] > 0).any()
    assert (difference["next"][:12] == 0).all() and difference["next"][12] > 0


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("independent", [False, True])
def test_a_causal_component_has_gradients_from_all_earlier_characters_and_no_later_ones(
    name: str, independent: bool
) -> None:
    base = embedder(CAUSAL["causal-attention"] if not independent else BIDIRECTIONAL)
    part = component(base, "next", CAUSAL[name], independent)
    for length, padding in ((17, 0), (22, 3)):
        embedding = part.embedding or base.embedding
        ids = torch.nn.functional.pad(text(length), (0, padding))
        gradients = sensitivity(lambda ids: features_of(base, {"next": part}, ids)["next"], embedding, ids)
        assert (gradients.triu(1) == 0).all()
        context = MIN_CONTEXT.get(name, length) if independent else length
        within = torch.ones_like(gradients[:length, :length]).tril().triu(-context) > 0
        assert (gradients[:length, :length][within] > 0).all()


def test_an_independent_component_does_not_depend_on_the_base_and_is_saved_with_its_embedding(tmp_path: Path) -> None:
    base, other = embedder(BIDIRECTIONAL, seed=1), embedder(BIDIRECTIONAL, seed=2)
    part = component(base, "own", CAUSAL_ENCODER, True)
    save(ComposedModel(base, [part, component(base, "shared", ATTENTION)]), tmp_path)
    loaded = load_composition(tmp_path)
    assert torch.equal(loaded.features(text(9))["own"], ComposedModel(other, [part])(text(9)))
    assert part.card.base_digest is None
    with pytest.raises(CompositionError, match="was trained on another base"):
        ComposedModel(other, [component(base, "shared", ATTENTION)])


def test_only_the_embedding_of_an_independent_component_is_trained_with_it() -> None:
    base = embedder(BIDIRECTIONAL)
    for independent in (False, True):
        encoder = OverBase(base, component(base, "part", BIDIRECTIONAL, independent)).train()
        encoder(text(9)).sum().backward()
        trained = {name.split(".")[1] for name, weight in encoder.named_parameters() if weight.grad is not None}
        assert trained == ({"body", "embedding"} if independent else {"body"})
    assert all(weight.grad is None for weight in base.parameters())


def test_an_independent_component_of_another_vocabulary_is_refused() -> None:
    base = embedder(BIDIRECTIONAL)
    part = component(base, "own", CAUSAL_ENCODER, True)
    stranger = Component(part.card.model_copy(update={"preprocessor_digest": "0" * 64}))
    with pytest.raises(CompositionError, match="must share the vocabulary of the base"):
        ComposedModel(base, [stranger])


@pytest.mark.parametrize(("key", "value"), [("base_digest", "0" * 64), ("independent", None)])
def test_a_card_has_either_a_base_or_an_embedding(key: str, value: str | None) -> None:
    base = embedder(BIDIRECTIONAL)
    values = ComponentCard.over(base, "own", "entities", CAUSAL_ENCODER, True).canonical() | {key: value}
    with pytest.raises(ConfigError, match="either `base_digest` or `independent`"):
        ComponentCard.parse(values, "card")
