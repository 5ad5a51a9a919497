"""Objectives on texts with contexts, trained by the training loop: they learn, and resume exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.corpus.contexts import ContextTexts
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Record
from cclm_core.encoders.embedder import Embedder
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.contexts import context_table, evaluate_contexts
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.evaluation.selection import CLEAN, TextSet
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.runtime.reporting import null_report
from cclm_core.training.component import component_module
from cclm_core.training.config import ComponentConfig
from cclm_core.training.contexts import ContextTraining, context_data, trained_bits
from cclm_core.training.loop import train
from tests.corpora import encode
from tests.training.trainings import SHAPE, store

SEED = 5
CLEAN_SET = TextSet(CLEAN, 0.0, [], [], [], [])
ENCODER = {"kind": "contextual", "core_width": 32, "width": 32, "num_layers": 2, "stride": 2}
TASKS: dict[str, dict[str, Any]] = {
    "context_masked_characters": {
        "rate": 0.9,
        "mean_span": 1,
        "contexts": {"number": 2, "characters": 24, "min_characters": 5, "types": ["author", "random"]},
    },
    "author_contrastive": {"number": 2, "min_characters": 5, "same_group": 0.5},
    "author_triplet": {"number": 2, "min_characters": 5, "margin": 40.0},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    """Each of 30 authors uses two letters of its own; 8 are for validation and 6 for testing."""
    generator, texts = derive(SEED, "letters"), []
    for author in range(30):
        letters = generator.permutation(list("abcdefghij"))[:2]
        for number in range(8):
            text = "".join(generator.choice(letters, size=24).tolist())
            split = "train" if author < 16 else "validation" if author < 24 else "test"
            texts.append(Record(f"{author}/{number}", text, f"{author}", f"{split}/{author % 3}", split=split))
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", texts)


def new_module(corpus: EncodedCorpus, name: str) -> tuple[ContextTraining, ComponentConfig]:
    config = ComponentConfig.parse(
        {
            "task": {"objective": name, **TASKS[name]},
            "encoder": ENCODER,
            "training": {
                "steps": 30, "batch_size": 8, "window": 24, "warmup_steps": 4, "evaluate_every": 15,
                "evaluation_windows": 64, "checkpoint_every": 10,
            },
        },
        "component",
    )  # fmt: skip
    with seeded_initialization(1):
        base = Embedder(corpus.preprocessor, SHAPE).freeze()
        component = Component(ComponentCard.over(base, "context", name, config.encoder))
        objective = config.task.build(ObjectiveContext(width=component.width, preprocessor=corpus.preprocessor))
    module = component_module(base, component, objective)
    assert isinstance(module, ContextTraining)
    return module, config


@pytest.mark.parametrize("name", TASKS)
def test_it_learns_and_resumes_exactly(corpus: EncodedCorpus, name: str, tmp_path: Path) -> None:
    module, config = new_module(corpus, name)
    data = context_data(corpus, config.task, config.training)  # type: ignore[arg-type]
    curve = train(module, data, config.training, SEED, None, null_report)
    metric = f"held_out_{module.objective.selection_metric}"
    assert curve[-1][metric] < 0.85 * curve[0][metric]

    def report(done: int, values: dict[str, float], steps: int) -> None:  # noqa: ARG001
        if done == 20:
            raise InterruptedError

    interrupted, _ = new_module(corpus, name)
    with pytest.raises(InterruptedError):
        train(interrupted, data, config.training, SEED, store(tmp_path), report)
    resumed, _ = new_module(corpus, name)
    assert train(resumed, data, config.training, SEED, store(tmp_path), null_report) == curve
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key


def test_contexts_of_the_author_save_bits_and_random_ones_do_not(corpus: EncodedCorpus) -> None:
    module, config = new_module(corpus, "context_masked_characters")
    data = context_data(corpus, config.task, config.training)  # type: ignore[arg-type]
    train(module, data, config.training.model_copy(update={"steps": 100}), SEED, None, null_report)
    texts = data.held_out
    assert isinstance(texts, ContextTexts)
    conditions: list[Any] = [("none", 0), ("author", 1), ("author", 2), ("random", 2)]
    bits = trained_bits(module.encoder, module.objective, SEED)  # type: ignore[arg-type]
    results = evaluate_contexts(bits, texts, conditions, 64, SEED)
    assert len({tuple(row["characters"] for row in result.rows) for result in results}) == 1  # the same masks
    table = {
        (row["type"], row["number"]): row
        for row in context_table(results, Bootstrap(resamples=200), SEED)
        if row["stratum"] == "all"
    }
    assert table["author", 2]["low"] > 0.1
    assert table["author", 2]["gain"] > table["random", 2]["high"]


def test_the_probe_measures_what_contexts_are_worth_to_a_composition(corpus: EncodedCorpus) -> None:
    module, config = new_module(corpus, "context_masked_characters")
    data = context_data(corpus, config.task, config.training)  # type: ignore[arg-type]
    train(module, data, config.training.model_copy(update={"steps": 100}), SEED, None, null_report)
    encoder = module.encoder
    assert isinstance(encoder, OverBase)
    settings = {"rate": 0.9, "number": 2, "characters": 24, "min_characters": 5, "window": 24, "train_texts": 128}
    evaluation = EvaluationConfig.parse({"probes": [{"probe": "contexts", **settings}], "contributions": False}, "x")
    composed = ComposedModel(encoder.base, [encoder.component]).eval()
    result = evaluate_composition(composed, corpus, [CLEAN_SET], evaluation, SEED, null_report)
    gain = result.metrics["author_context_gain"]
    assert gain.interval is not None and gain.interval[0] > 0
    assert gain.value > result.metrics["author_context_gain_over_random"].value - 0.5
    assert {(row["type"], row["number"]) for row in result.tables["contexts"]} == {
        ("none", 0), ("author", 1), ("author", 2), ("group", 2), ("random", 2),
    }  # fmt: skip


def test_a_batch_of_one_gives_the_loss_of_a_batch_of_four(corpus: EncodedCorpus) -> None:
    module, config = new_module(corpus, "context_masked_characters")
    data = context_data(corpus, config.task, config.training)  # type: ignore[arg-type]
    assert isinstance(data.held_out, ContextTexts)
    results = []
    for size in (1, 4):
        total = 0.0
        batch = data.held_out.with_type("author", 2, 4, SEED)
        for start in range(0, 4, size):
            part = batch.rows(start, start + size)
            example = module.objective.example(part, derive(SEED, "same"), training=False)
            ids = part.target.ids.copy()
            ids[:, ::3] = 2  # the same masked characters in both
            positions = torch.arange(ids.size).view(ids.shape)[:, ::3].flatten()
            targets = {
                **example.targets,
                "positions": positions,
                "ids": torch.from_numpy(part.target.ids).flatten()[positions],
            }
            example = example._replace(ids=torch.from_numpy(ids), targets=targets)
            with torch.no_grad():
                features = module.objective.features(module.encoder, example)
            total += module.objective.nats(features, example)[0].sum().item()  # type: ignore[attr-defined]
        results.append(total)
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_an_objective_with_contexts_needs_a_contextual_encoder() -> None:
    with pytest.raises(ConfigError, match="needs an encoder that reads contexts, got hourglass"):
        ComponentConfig.parse({"task": {"objective": "author_contrastive"}}, "component")
