"""The contract of objectives: learning, no leaks, invariance to padding and batch size, saving and loading."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import Example, Objective, ObjectiveConfig, ObjectiveContext, Sums
from cclm_core.objectives.word_losses import NegativeSamplingConfig, SampledSoftmaxConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import MASK, Preprocessor, TargetsConfig
from cclm_core.text.word_targets import read_targets
from tests.corpora import encode, records
from tests.training.trainings import OBJECTIVES, SHAPE, encoder_for

SETTINGS: dict[type[Config], dict[str, Any]] = {
    SampledSoftmaxConfig: {"num_draws": 12},
    NegativeSamplingConfig: {"num_negatives": 200},
}
"""Settings of losses for a small vocabulary, so that tests take seconds."""


def small(config: Any) -> Any:
    """An objective with the settings of its loss."""
    loss = getattr(config, "loss", None)
    if not isinstance(loss, Config):
        return config
    return config.model_copy(update={"loss": type(loss)(**SETTINGS.get(type(loss), {}))})


CATALOGUE = {name: small(config) for name, config in OBJECTIVES.items()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(120), TargetsConfig(min_count=1))


@pytest.fixture(params=CATALOGUE)
def config(request: pytest.FixtureRequest) -> ObjectiveConfig:
    config: ObjectiveConfig = CATALOGUE[request.param]
    return config


def model(corpus: EncodedCorpus, config: ObjectiveConfig, rate: float = 0.0) -> tuple[nn.Module, Objective]:
    context = ObjectiveContext(
        width=SHAPE.encoder.width,
        preprocessor=corpus.preprocessor,
        noise=TrainingNoise(rate=rate),
        entity_labels=tuple(corpus.entity_labels),
        document_labels=corpus.document_labels,
        words=read_targets(corpus.folder),
    )
    with seeded_initialization(4):
        untrained = config.build(context)
    with seeded_initialization(4):
        return encoder_for(corpus.preprocessor, untrained), config.build(context)


def fit(embedder: nn.Module, objective: Objective, batches: list[WindowBatch], fresh: bool) -> None:
    optimizer = torch.optim.AdamW([*embedder.parameters(), *objective.parameters()], lr=4e-3)
    for step, batch in enumerate(batches):
        example = objective.example(batch, derive(0, step if fresh else 0), training=True)
        loss, _ = objective.loss(embedder(example.ids), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def evaluate(embedder: nn.Module, objective: Objective, example: Example) -> Sums:
    """The selection metric of an example, without drawn targets, if any."""
    targets = {name: tensor for name, tensor in example.targets.items() if name != "drawn"}
    return objective.loss(embedder(example.ids), example._replace(targets=targets))[1][objective.selection_metric]


def held_out(embedder: nn.Module, objective: Objective, batch: WindowBatch) -> float:
    embedder.eval(), objective.eval()
    with torch.no_grad():
        example = objective.example(batch, derive(9, "held out"), training=False)
        sums = objective.loss(embedder(example.ids), example)[1][objective.selection_metric]
    return sums.total / sums.number


def trivial_bits(example: Example, metrics: dict[str, Sums]) -> float:
    """The metric of the best constant prediction: the entropy of the classes, or chance, or a mean vector."""
    if "vectors" in example.targets:
        return 1 - float(example.targets["vectors"].mean(0).norm())
    if "baseline" in example.targets:
        return 1.0  # the metric is relative to the mean vector
    if "bits_of_chance" in metrics:
        return metrics["bits_of_chance"].total / metrics["bits_of_chance"].number
    classes = next(example.targets[name] for name in ("ids", "tags", "bytes", "labels") if name in example.targets)
    shares = torch.unique(classes, return_counts=True)[1].double() / classes.numel()
    return float(-(shares * shares.log2()).sum())


def test_a_tiny_batch_is_overfitted(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    embedder, objective = model(corpus, config)
    batch = Windows(corpus.split("train"), 48).fixed(2, seed=1)
    fit(embedder, objective, [batch] * 120, fresh=False)
    sums = evaluate(embedder, objective, objective.example(batch, derive(0, 0), training=True))
    assert sums.total / sums.number < 0.1


def test_it_beats_the_trivial_baseline_on_held_out_text(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    embedder, objective = model(corpus, config, rate=0.02)
    windows = Windows(corpus.split("train"), 64)
    test = Windows(corpus.split("test"), 64).fixed(16, seed=1)
    fit(embedder, objective, [windows.batch(step, 8, seed=1) for step in range(100)], fresh=True)
    bits = held_out(embedder, objective, test)
    example = objective.example(test, derive(9, "held out"), training=False)
    with torch.no_grad():
        metrics = objective.loss(embedder(example.ids), example)[1]
    assert bits < 0.6 * trivial_bits(example, metrics)


def test_padding_does_not_change_the_loss(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    embedder, objective = model(corpus, config)
    embedder.eval(), objective.eval()
    batch = Windows(corpus.split("train"), 40).fixed(4, seed=2)
    example = objective.example(batch, derive(1), training=False)
    length = example.ids.shape[1]
    padded = example._replace(ids=torch.nn.functional.pad(example.ids, (0, 24)))
    if "positions" in example.targets:
        positions = example.targets["positions"]
        moved = positions // length * (length + 24) + positions % length
        padded = padded._replace(targets=example.targets | {"positions": moved})
    loss, padded_loss = (objective.loss(embedder(batch.ids), batch)[0] for batch in (example, padded))
    torch.testing.assert_close(loss, padded_loss, atol=1e-5, rtol=1e-5)


def test_masked_characters_do_not_leak(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    """Two texts that differ only in masked characters have the same input."""
    _, objective = model(corpus, config)
    batch = Windows(corpus.split("train"), 48).fixed(2, seed=3)
    example = objective.example(batch, derive(2), training=False)
    if not (example.ids == MASK).any():
        pytest.skip("this objective does not mask: its targets are labels, edits, or later characters")
    positions = example.targets["positions"].numpy()
    changed = batch.ids.copy()
    a, b = (corpus.preprocessor.encode(letter)[0] for letter in "ab")
    is_letter = np.array([corpus.preprocessor.decode([int(id_)]).isalnum() for id_ in changed.ravel()[positions]])
    letters = positions[is_letter]
    changed.ravel()[letters] = np.where(changed.ravel()[letters] == a, b, a)
    assert not np.array_equal(changed, batch.ids)
    again = objective.example(batch._replace(ids=changed), derive(2), training=False)
    assert torch.equal(example.ids, again.ids)


def test_the_clean_batch_is_not_changed(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    _, objective = model(corpus, config, rate=0.3)
    batch = Windows(corpus.split("train"), 48).fixed(4, seed=3)
    before = WindowBatch(*(array.copy() for array in batch[:3]))
    objective.example(batch, derive(2), training=True)
    assert all(np.array_equal(a, b) for a, b in zip(batch[:3], before[:3], strict=True))


def test_texts_of_any_length_are_supported(corpus: EncodedCorpus, config: ObjectiveConfig) -> None:
    embedder, objective = model(corpus, config, rate=0.2)
    encoded = corpus.preprocessor.encode("Viola loves the sea.").astype(np.int64)
    for length in (0, 1, 2, 5, 20):
        ids = np.zeros((2, 20), dtype=np.int64)
        ids[0, :length] = encoded[:length]
        batch = WindowBatch(ids, np.zeros((2, 20), dtype=np.uint8), np.array([length, 0]))
        example = objective.example(batch, derive(length), training=True)
        loss, _ = objective.loss(embedder(example.ids), example)
        assert torch.isfinite(loss)


def test_a_saved_head_can_be_loaded(corpus: EncodedCorpus, config: ObjectiveConfig, tmp_path: Path) -> None:
    _, objective = model(corpus, config)
    objective.save(tmp_path)
    _, other = model(corpus, config)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(7.0)
    other.load_head(tmp_path)
    weights = other.state_dict()
    assert weights and all(torch.equal(tensor, weights[name]) for name, tensor in objective.state_dict().items())


def test_a_head_that_does_not_match_is_refused_and_nothing_changes(corpus: EncodedCorpus, tmp_path: Path) -> None:
    config = CATALOGUE["masked_characters"]
    _, objective = model(corpus, config)
    with pytest.raises(ArtifactError, match=r"head.safetensors not found in"):
        objective.load_head(tmp_path)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    config.build(ObjectiveContext(width=48, preprocessor=Preprocessor(alphabet="abc"))).save(tmp_path)
    with pytest.raises(ArtifactError, match=r"head.bias has shape \(263,\), expected \(\d+,\); head.weight has shape"):
        objective.load_head(tmp_path)
    CATALOGUE["denoise"].build(ObjectiveContext(width=48, preprocessor=corpus.preprocessor)).save(tmp_path)
    with pytest.raises(ArtifactError, match=r"head.bias is missing; .*; edits.behind.bias is unexpected"):
        objective.load_head(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"head.safetensors is damaged"):
        objective.load_head(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
