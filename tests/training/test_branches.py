"""Joint training over one encoder: factors of gradients, schedules, frozen parts, order; in exact arithmetic."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders import ConvolutionConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import EntitiesConfig, MaskedCharactersConfig, ObjectiveConfig
from cclm_core.objectives.base import Example
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.reporting import null_report
from cclm_core.training.branches import Branch, scale_gradient
from cclm_core.training.config import BaseConfig, WeightedObjective
from cclm_core.training.joint import build_branches
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule
from cclm_core.training.run import TrainingInputs
from cclm_core.training.schedules import (
    ConstantConfig,
    DecayConfig,
    FrozenUntilConfig,
    PiecewiseConfig,
    ScheduleConfig,
    WarmupConfig,
    factor_at,
)
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, data, new_module, store

BODY = ConvolutionConfig(width=16, num_blocks=1)
TASKS: tuple[ObjectiveConfig, ...] = (MaskedCharactersConfig(), EntitiesConfig(), MaskedCharactersConfig(rate=0.3))
NAMES = ("masked", "entities", "more_masked")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60))
    return EncodedCorpus.open(folder)


def part(task: ObjectiveConfig, **changes: object) -> WeightedObjective:
    """An objective with a name and a body of its own."""
    return WeightedObjective.model_validate(
        {"task": task, "name": NAMES[TASKS.index(task)], "encoder": BODY, **changes}
    )


def joint(corpus: EncodedCorpus, *parts: WeightedObjective) -> TrainingModule:
    """A small embedder with branches, in float64 up to the logits, which objectives compute in float32."""
    embedder = new_module(corpus, MaskedCharactersConfig()).encoder
    inputs = TrainingInputs.open(corpus.folder, TrainingNoise(rate=0.02))
    module = TrainingModule(embedder, build_branches(parts, embedder, inputs, SEED)).double()  # type: ignore[arg-type]
    for objective in module.objectives:
        if "weights" in dict(objective.named_buffers()):  # of the classes of entities
            objective.register_buffer("weights", objective.get_buffer("weights").float(), persistent=False)
    return module

    return TrainingNoise(rate=0.02)


def gradients(module: TrainingModule, corpus: EncodedCorpus, step: int = 0) -> dict[str, Tensor]:
    """Parameter -> its gradient in one training step; parameters without a gradient are left out."""
    batch = data(corpus, CONFIG).training.batch(0, 4, SEED)
    examples: list[Example] = module.examples(batch, True, SEED, "training", 0)
    module.zero_grad(set_to_none=True)
    module.begin_step(step)
    module(examples)[0].backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


def of_encoder(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name.startswith("encoder.")}


def of_branches(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if not name.startswith("encoder.")}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor], factor: float = 1.0) -> None:
    assert left.keys() == right.keys() and left
    is_exact = factor == 0 or math.frexp(factor)[0] == 0.5  # a power of two moves no rounding
    for name, value in left.items():
        if is_exact:
            assert torch.equal(value, factor * right[name]), name
        else:
            torch.testing.assert_close(value, factor * right[name], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
def test_a_scaled_gradient_is_exact_and_the_features_are_unchanged(factor: float) -> None:
    weight = torch.tensor([0.1, -3.7], dtype=torch.float64, requires_grad=True)
    scaled = scale_gradient(weight, factor)
    assert torch.equal(scaled, weight)
    if factor == 0:
        assert not scaled.requires_grad, "nothing before the features may be computed"
        return
    (scaled**3).sum().backward()
    assert torch.equal(weight.grad, factor * (3 * weight.detach() ** 2))


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("has_body", [True, False])
def test_the_factor_scales_what_the_encoder_gets_and_nothing_else(
    corpus: EncodedCorpus, factor: float, has_body: bool
) -> None:
    body = {} if has_body else {"encoder": None}
    plain = gradients(joint(corpus, part(TASKS[0], **body)), corpus)
    scaled = gradients(joint(corpus, part(TASKS[0], gradient_factor=factor, **body)), corpus)
    assert_equal(of_encoder(scaled), of_encoder(plain), factor)
    assert_equal(of_branches(scaled), of_branches(plain))


def test_a_loss_weight_scales_the_head_too(corpus: EncodedCorpus) -> None:
    plain = gradients(joint(corpus, part(TASKS[0])), corpus)
    weighted = gradients(joint(corpus, part(TASKS[0], loss_weight=0.25)), corpus)
    assert_equal(weighted, plain, 0.25)


def test_factor_zero_trains_the_head_and_leaves_the_encoder_without_a_gradient(corpus: EncodedCorpus) -> None:
    plain = gradients(joint(corpus, part(TASKS[0])), corpus)
    zero = gradients(joint(corpus, part(TASKS[0], gradient_factor=0)), corpus)
    assert not of_encoder(zero)
    assert_equal(zero, of_branches(plain))


@pytest.mark.parametrize("factors", [(0.5, 2.0, 1.0), (0.0, 1.0, 2.0), (1.0, 0.0, 0.0)])
def test_the_encoder_gets_the_weighted_sum_of_all_gradients(
    corpus: EncodedCorpus, factors: tuple[float, float, float]
) -> None:
    alone = [of_encoder(gradients(joint(corpus, part(task)), corpus)) for task in TASKS]
    parts = [part(task, gradient_factor=factor) for task, factor in zip(TASKS, factors, strict=True)]
    together = of_encoder(gradients(joint(corpus, *parts), corpus))
    for name, value in together.items():
        expected = sum(factor * single[name] for factor, single in zip(factors, alone, strict=True) if name in single)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)


SCHEDULES: dict[str, tuple[ScheduleConfig, list[float]]] = {
    "constant": (ConstantConfig(value=0.5), [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
    "warmup": (WarmupConfig(steps=4), [0, 0.25, 0.5, 0.75, 1, 1]),
    "linear decay": (DecayConfig(steps=4, start=2, end=1), [2, 1.75, 1.5, 1.25, 1, 1]),
    "cosine decay": (DecayConfig(steps=2, start=1, end=0, shape="cosine"), [1, 0.5, 0, 0, 0, 0]),
    "exponential decay": (DecayConfig(steps=4, start=4, end=0.25, shape="exponential"), [4, 2, 1, 0.5, 0.25, 0.25]),
    "piecewise": (PiecewiseConfig(values=((0, 0), (2, 0.5), (5, 2))), [0, 0, 0.5, 0.5, 0.5, 2]),
    "frozen": (FrozenUntilConfig(step=3), [0, 0, 0, 1, 1, 1]),
    "frozen, then a warm-up": (FrozenUntilConfig(step=2, then=WarmupConfig(steps=2)), [0, 0, 0, 0.5, 1, 1]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_honored_at_every_step(corpus: EncodedCorpus, name: str) -> None:
    schedule, factors = SCHEDULES[name]
    assert [factor_at(schedule, step) for step in range(6)] == pytest.approx(factors, abs=1e-15)
    plain = of_encoder(gradients(joint(corpus, part(TASKS[1])), corpus))
    module = joint(corpus, part(TASKS[1], gradient_factor=schedule))
    for step in range(6):
        scaled = of_encoder(gradients(module, corpus, step))
        if factors[step] == 0:
            assert not scaled
        else:
            assert_equal(scaled, plain, factor_at(schedule, step))


def test_the_loop_keeps_the_encoder_bit_equal_until_the_step_and_a_resumed_training_goes_on_exactly(
    corpus: EncodedCorpus, tmp_path: Path
) -> None:
    def trained(steps: int, checkpoints: Path | None = None) -> dict[str, Tensor]:
        module = joint(corpus, part(TASKS[0], gradient_factor=FrozenUntilConfig(step=4, then=WarmupConfig(steps=4))))
        config = CONFIG.model_copy(update={"steps": 8})
        if checkpoints is not None and steps < 8:  # the same schedule, interrupted
            with pytest.raises(KeyboardInterrupt):
                train(module, data(corpus, config), config, SEED, store(checkpoints), interrupting(steps))
        else:
            saved = None if checkpoints is None else store(checkpoints)
            changed = config.model_copy(update={"steps": steps, "evaluate_every": steps})
            train(module, data(corpus, config), config if steps == 8 else changed, SEED, saved, null_report)
        return dict(module.state_dict())

    initial = dict(joint(corpus, part(TASKS[0])).state_dict())
    at_four = trained(4)
    assert_equal(of_encoder(at_four), of_encoder(initial))
    assert not torch.equal(at_four["objectives.0.head.weight"], initial["objectives.0.head.weight"])
    whole = trained(8)
    assert not torch.equal(whole["encoder.embedding.characters.weight"], initial["encoder.embedding.characters.weight"])
    trained(5, tmp_path / "checkpoints")
    assert_equal(trained(8, tmp_path / "checkpoints"), whole)


def interrupting(step: int):  # type: ignore[no-untyped-def]
    """A report that raises an exception once `step` steps are done."""

    def report(done: int, *_: object) -> None:
        if done >= step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_frozen_component_costs_nothing_and_blocks_nothing_wherever_it_is(
    corpus: EncodedCorpus, position: int
) -> None:
    """In spaCy, the shared layer is not trained if the last component is frozen."""
    frozen = part(TASKS[2], gradient_factor=0)
    others = [part(TASKS[0]), part(TASKS[1])]
    parts = [*others[:position], frozen, *others[position:]]
    module = joint(corpus, *parts)
    branch = next(branch for branch in module.branches if branch.name == "more_masked")
    branch.objective.requires_grad_(False)
    branch.body.requires_grad_(False)  # type: ignore[union-attr]
    passes = list[int]()
    module.encoder.register_forward_hook(lambda *_: passes.append(1))
    together = gradients(module, corpus)
    assert len(passes) == 2, "a frozen component must not run"
    expected = gradients(joint(corpus, *others), corpus)
    assert_equal(of_encoder(together), of_encoder(expected))
    assert not any("more_masked" in name and name.startswith("bodies") for name in together)


def test_an_objective_of_weight_zero_is_measured_and_not_trained(corpus: EncodedCorpus) -> None:
    module = joint(corpus, part(TASKS[0]), part(TASKS[1], loss_weight=0))
    before = {name: value.clone() for name, value in module.state_dict().items() if "entities" in name}
    config = CONFIG.model_copy(update={"steps": 4})
    curve = train(module, data(corpus, config), config, SEED, None, null_report)
    assert {"held_out_bits_per_masked_character", "held_out_bits_per_tag"} <= curve[-1].keys()
    assert_equal({name: module.state_dict()[name] for name in before}, before)


def test_a_step_that_would_change_nothing_is_refused(corpus: EncodedCorpus) -> None:
    module = joint(corpus, part(TASKS[0], gradient_factor=0))
    module.objectives.requires_grad_(False)
    module.bodies.requires_grad_(False)
    with pytest.raises(TrainingError, match="step 1 would change no weight"):
        gradients(module, corpus)


def permutations() -> Iterator[tuple[int, ...]]:
    yield from itertools.permutations(range(3))


def test_the_order_of_objectives_does_not_matter(corpus: EncodedCorpus) -> None:
    parts = [
        part(TASKS[0]),
        part(TASKS[1], gradient_factor=0.5),
        part(TASKS[2], gradient_factor={"schedule": "warmup", "steps": 3}),
    ]
    config = CONFIG.model_copy(update={"steps": 4, "evaluate_every": 4})
    results = []
    for order in itertools.islice(permutations(), 0, 6, 2):
        module = joint(corpus, *(parts[index] for index in order))
        curve = train(module, data(corpus, config), config, SEED, None, null_report)
        results.append((dict(module.state_dict()), curve))
    for state, curve in results[1:]:
        assert_equal(state, results[0][0])
        assert curve == results[0][1]


def test_a_schedule_of_the_user_must_return_a_factor() -> None:
    class Negative(ConstantConfig):
        def at(self, step: int) -> float:  # noqa: ARG002
            return -1.0

    with pytest.raises(TrainingError, match=r"must return a finite number of at least 0, got -1\.0 at step 3"):
        factor_at(Negative(), 3)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([{"encoder": {"kind": "convolution"}}], "must have a `name`"),
        ([{"name": "a"}, {"name": "A"}], "the names of objectives must differ, got 'a' twice"),
        ([{"loss_weight": 0}], "at least one objective must have a loss_weight above 0"),
        ([{"gradient_factor": -0.5}], r"gradient_factor\.value must be greater than or equal to 0, got -0\.5"),
        ([{"gradient_factor": {"schedule": "warmpu"}}], "did you mean 'warmup'"),
    ],
)
def test_a_wrong_base_is_refused(objectives: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BaseConfig.parse({"objectives": objectives}, "base")


def test_defaults_leave_the_configuration_of_a_base_as_it_was() -> None:
    """Digests of results depend on it."""
    assert BaseConfig().canonical()["objectives"] == [
        {"task": MaskedCharactersConfig().canonical(), "gradient_factor": 1.0}
    ]
    assert Branch.__dataclass_fields__["loss_weight"].default == 1.0
