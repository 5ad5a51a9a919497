"""Compositions: shapes, any length, unchanged parts, and parts that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cclm_core.composition import Component, ComponentCard
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor

ENCODER = HourglassConfig(core_width=32, num_layers=1, num_heads=2, width=16)
SHAPE = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=ENCODER)
TEXTS = ["If music be the food of love, play on;", "", "a", "Ἐν ἀρχῇ", "Give me excess of it"]


def embedder(seed: int = 1, texts: tuple[str, ...] = tuple(TEXTS)) -> Embedder:
    with seeded_initialization(seed):
        return Embedder(Preprocessor().fit(texts), SHAPE).eval()


def component(base: Embedder, name: str, width: int = 16) -> Component:
    card = ComponentCard(
        name=name,
        objective="entities",
        base_width=base.width,
        base_digest=base.digest,
        preprocessor_digest=base.preprocessor.digest,
        encoder=ENCODER.model_copy(update={"width": width}),
    )
    with seeded_initialization(len(name)):
        return Component(card).eval()


@pytest.fixture
def composed() -> ComposedModel:
    base = embedder()
    return ComposedModel(base, [component(base, "first", 16), component(base, "second", 24)], "pair").eval()


def test_features_are_concatenated_in_the_order_of_the_parts(composed: ComposedModel) -> None:
    ids = torch.from_numpy(composed.preprocessor.encode(TEXTS[0]).astype(np.int64))[None]
    features = composed(ids)
    assert features.shape == (1, len(TEXTS[0]), 40) and composed.width == 40
    parts = composed.features(ids)
    assert list(parts) == ["first", "second"] == list(composed.parts)
    assert torch.equal(features[..., 16:], parts["second"])
    alone = ComposedModel(composed.base, [composed.components["second"]])  # type: ignore[list-item]
    assert torch.equal(alone(ids), parts["second"])


def test_composing_does_not_change_parts() -> None:
    base = embedder()
    part = component(base, "first")
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    ComposedModel(base, [part])([torch.ones(1, 4, dtype=torch.int64)][0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.state_dict().items())


def test_a_text_has_the_same_features_in_any_batch(composed: ComposedModel) -> None:
    together = composed.embed(TEXTS)
    for text, features in zip(TEXTS, together, strict=True):
        assert features.shape == (len(composed.preprocessor.encode(text)), 40)
        np.testing.assert_allclose(features, composed.embed([text])[0], atol=1e-5)
    assert composed.embed([]) == []


def test_a_long_text_is_read_in_windows_without_loss(composed: ComposedModel) -> None:
    text = TEXTS[0] * 20
    features = composed.embed([text], window=64)[0]
    assert features.shape == (len(text), 40)
    np.testing.assert_allclose(features[:20], composed.embed([text[:64]], window=64)[0][:20], atol=1e-5)
    assert np.abs(features).sum(axis=1).min() > 0


def test_arrays_of_ids_are_embedded(composed: ComposedModel) -> None:
    row = composed.preprocessor.string_to_array("a love", 9)
    features = composed.model(row)
    assert features.shape == (1, 9, 40) and torch.equal(features, composed(torch.from_numpy(row)[None]))
    assert torch.equal(composed.model(row[None]), features)


def test_the_digest_changes_with_the_weights() -> None:
    base = embedder()
    part = component(base, "first")
    model = ComposedModel(base, [part])
    before = model.digest
    assert model.digest == before == ComposedModel(base, [component(base, "first")]).digest
    with torch.no_grad():
        part.get_parameter("body.norm.bias").add_(1)
    changed = model.digest
    assert changed != before
    with torch.no_grad():
        part.get_parameter("body.norm.bias").sub_(1)
    assert model.digest == before
    part.get_parameter("body.norm.bias").data = part.get_parameter("body.norm.bias").data + 1  # a new tensor
    assert model.digest == changed


def test_a_saved_composition_is_self_contained(composed: ComposedModel, tmp_path: Path) -> None:
    save(composed, tmp_path)
    loaded = load_composition(tmp_path)
    assert loaded.card == composed.card
    for mine, theirs in zip(composed.embed(TEXTS), loaded.embed(TEXTS), strict=True):
        assert np.array_equal(mine, theirs)


def test_a_missing_file_is_named(composed: ComposedModel, tmp_path: Path) -> None:
    save(composed, tmp_path)
    (tmp_path / "parts" / "second" / "component.json").unlink()
    with pytest.raises(ArtifactError, match=r"second must contain exactly one of .*component.json, .* got none"):
        load_composition(tmp_path)


def test_a_part_of_another_base_is_refused() -> None:
    base, other = embedder(1), embedder(2)
    stranger = component(other, "first")
    with pytest.raises(CompositionError, match=rf"expected {other.digest[:12]}, got {base.digest[:12]}"):
        ComposedModel(base, [stranger])


def test_a_part_of_another_vocabulary_is_refused() -> None:
    base, other = embedder(), embedder(1, ("other letters",))
    with pytest.raises(CompositionError, match="must share the vocabulary of the base"):
        ComposedModel(base, [component(other, "first")])


def test_empty_and_duplicate_parts_are_refused() -> None:
    base = embedder()
    with pytest.raises(ConfigError, match="at least one component"):
        ComposedModel(base, [])
    with pytest.raises(ConfigError, match="must be unique, got 'same' twice"):
        ComposedModel(base, [component(base, "same"), component(base, "same")])


def test_the_digest_of_the_base_covers_every_weight() -> None:
    base = embedder()
    before = base.digest
    with torch.no_grad():
        base.encoder.norm.bias[3] += 1e-3
    assert base.digest != before


def test_an_untrained_control_has_the_same_architecture_and_other_weights() -> None:
    part = component(embedder(), "first")
    control = part.untrained(6)
    again = part.untrained(6)
    mine, theirs = part.state_dict(), control.state_dict()
    assert {name: tensor.shape for name, tensor in mine.items()} == {name: t.shape for name, t in theirs.items()}
    assert not torch.equal(mine["body.down.weight"], theirs["body.down.weight"])
    assert torch.equal(theirs["body.down.weight"], again.state_dict()["body.down.weight"])
    assert control.card.trained is False and part.card.trained is True
