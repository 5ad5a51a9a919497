"""The one training loop: any number of objectives over one encoder, resumed exactly from a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.config import digest
from cclm_core.errors import ConfigError, TrainingError
from cclm_core.objectives.base import Example, Objective, Sums
from cclm_core.random import derive, derive_seed
from cclm_core.reporting import Report
from cclm_core.text.batches import made_ahead
from cclm_core.text.windows import WindowBatch
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.optimizer import build_optimizer, learning_rate, load_optimizer_tensors, optimizer_tensors

Point = dict[str, float]


class Trainee(nn.Module):
    """What is trained: an encoder of ids, and objectives that read its features, each with a gradient factor.

    Raises:
        ConfigError: an objective asks for what comes later, and the encoder sees it.
    """

    def __init__(self, encoder: nn.Module, objectives: list[tuple[Objective, float]]) -> None:
        super().__init__()
        for objective, _ in objectives:
            if objective.needs_causal and not getattr(encoder, "causal", False):
                raise ConfigError(
                    f"the objective {type(objective).__name__} asks for what comes next, so its encoder must see "
                    f"nothing of that; {getattr(encoder, 'described', 'this encoder')} does. Set `causal: true` in "
                    "the configuration of the encoder."
                )
        self.encoder = encoder
        self.objectives = nn.ModuleList(objective for objective, _ in objectives)
        self.factors = [factor for _, factor in objectives]

    def examples(self, batch: WindowBatch, training: bool, seed: int, *names: str | int) -> list[Example]:
        """What each objective makes of a clean batch, by a generator that `seed` and `names` name.

        It reads no state that training changes, so another thread may make the examples of later steps.
        """
        made = []
        for number, objective in enumerate(self.objectives):
            assert isinstance(objective, Objective)
            made.append(objective.example(batch, derive(seed, *names, number), training))
        return made

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted loss () of one example for each objective."""
        total = torch.zeros(())
        metrics: dict[str, Sums] = {}
        for objective, factor, example in zip(self.objectives, self.factors, examples, strict=True):
            assert isinstance(objective, Objective)
            loss, values = objective.loss(self.encoder(example.ids), example)
            total = total + factor * loss
            metrics |= values
        return total, metrics


def train(
    trainee: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
    workers: int = 1,
) -> list[Point]:
    """Trains in place, from the newest checkpoint if there is one; returns the learning curve.

    Each point of the curve holds `step`, `learning_rate`, the mean training `loss` since the last point, and every
    held-out metric as `held_out_NAME`. A resumed training gives the same bits as one that was never interrupted,
    on the same kind of CPU; so does one with another number of `workers`, the threads that make batches ahead.

    Raises:
        TrainingError: the loss is not finite; the step and the loss are named.
    """
    with _threads(config.threads):
        return _train(trainee, data, config, seed, checkpoints, report, workers)


def _train(
    trainee: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
    workers: int,
) -> list[Point]:
    optimizer = build_optimizer(trainee, config)
    curve, losses, first = _resume(trainee, optimizer, checkpoints)
    held_out = data.held_out.fixed(config.evaluation_windows, seed)
    if config.steps == 0 or (first == 0 and not curve):
        curve = [{"step": 0, **evaluate(trainee, held_out, config, seed)}]
        report(0, curve[-1], config.steps)
    order = derive_seed(seed, "windows")

    def prepared(step: int) -> list[Example]:
        batch = data.training.batch(step, config.batch_size, order)
        return trainee.examples(batch, True, seed, "training", step)

    with made_ahead(prepared, range(first, config.steps), workers) as batches:
        for step, examples in enumerate(batches, start=first):
            losses.append(_step(trainee, optimizer, examples, config, step))
            done = step + 1
            if done % config.evaluate_every == 0 or done == config.steps:
                mean = float(np.mean(losses))
                rate = learning_rate(step, config)
                metrics = evaluate(trainee, held_out, config, seed)
                curve.append({"step": done, "learning_rate": rate, "loss": mean, **metrics})
                losses.clear()
                report(done, {name: value for name, value in curve[-1].items() if name != "step"}, config.steps)
            elif done % 10 == 0:
                report(done, {"loss": losses[-1]}, config.steps)
            if done % config.checkpoint_every == 0 and done < config.steps:
                tensors = {f"model.{name}": value for name, value in trainee.state_dict().items()}
                tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
                checkpoints.save(Checkpoint(done, tensors, {"curve": curve, "losses": losses}))
    return curve


def evaluate(trainee: Trainee, batch: WindowBatch, config: TrainingConfig, seed: int) -> Point:
    """Held-out metrics of fixed windows under a fixed corruption, by name `held_out_NAME`."""
    sums: dict[str, list[Sums]] = {}
    trainee.eval()
    with torch.no_grad(), _precision(config):
        for start in range(0, len(batch.ids), config.batch_size):
            rows = slice(start, start + config.batch_size)
            part = WindowBatch(batch.ids[rows], batch.tags[rows], batch.lengths[rows])
            examples = trainee.examples(part, False, seed, "held out", start)
            for name, value in trainee(examples)[1].items():
                sums.setdefault(name, []).append(value)
    trainee.train()
    totals = {name: (sum(v.total for v in values), sum(v.number for v in values)) for name, values in sums.items()}
    return {f"held_out_{name}": total / count for name, (total, count) in totals.items() if count}


def identity(*parts: object) -> str:
    """The digest that tells one training from another: configuration, data, base, code."""
    return digest(list(parts))


def _step(
    trainee: Trainee, optimizer: torch.optim.Optimizer, examples: list[Example], config: TrainingConfig, step: int
) -> float:
    with _precision(config):
        loss, _ = trainee(examples)
    value = float(loss.detach())
    if not np.isfinite(value):
        raise TrainingError(
            f"the loss must be finite, but it is {value} at step {step + 1}; lower training.learning_rate "
            "or use precision fp32. The newest checkpoint is kept."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_((p for p in trainee.parameters() if p.requires_grad), config.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.step()
    return value


def _resume(
    trainee: Trainee, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints
) -> tuple[list[Point], list[float], int]:
    checkpoint = checkpoints.newest()
    if checkpoint is None:
        return [], [], 0
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
    for name, tensor in checkpoint.tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = tensor
    trainee.load_state_dict(groups["model"])
    load_optimizer_tensors(optimizer, groups["optimizer"])
    return checkpoint.facts["curve"], checkpoint.facts["losses"], checkpoint.step


def _precision(config: TrainingConfig) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
