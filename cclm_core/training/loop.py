"""The one training loop: any number of objectives over one encoder, resumed exactly from a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.config import digest
from cclm_core.errors import TrainingError
from cclm_core.objectives.base import Objective, Sums
from cclm_core.random import derive, derive_seed
from cclm_core.reporting import Report
from cclm_core.text.windows import WindowBatch, Windows
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.optimizer import build_optimizer, learning_rate, load_optimizer_tensors, optimizer_tensors

Point = dict[str, float]


class Trainee(nn.Module):
    """What is trained: an encoder of ids, and objectives that read its features, each with a gradient factor."""

    def __init__(self, encoder: nn.Module, objectives: list[tuple[Objective, float]]) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleList(objective for objective, _ in objectives)
        self.factors = [factor for _, factor in objectives]

    def forward(self, batch: WindowBatch, seed: int, *names: str | int) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted loss () of a clean batch, corrupted by a generator that `seed` and `names` name."""
        total = torch.zeros(())
        metrics: dict[str, Sums] = {}
        for number, (objective, factor) in enumerate(zip(self.objectives, self.factors, strict=True)):
            assert isinstance(objective, Objective)
            example = objective.example(batch, derive(seed, *names, number))
            loss, values = objective.loss(self.encoder(example.ids), example)
            total = total + factor * loss
            metrics |= values
        return total, metrics


def train(
    trainee: Trainee, data: Data, config: TrainingConfig, seed: int, checkpoints: Checkpoints, report: Report
) -> list[Point]:
    """Trains in place, from the newest checkpoint if there is one; returns the learning curve.

    Each point of the curve holds `step`, `learning_rate`, the mean training `loss` since the last point, and every
    held-out metric as `held_out_NAME`. A resumed training gives the same bits as one that was never interrupted,
    on the same kind of CPU.

    Raises:
        TrainingError: the loss is not finite; the step and the loss are named.
    """
    with _threads(config.threads):
        return _train(trainee, data, config, seed, checkpoints, report)


def _train(
    trainee: Trainee, data: Data, config: TrainingConfig, seed: int, checkpoints: Checkpoints, report: Report
) -> list[Point]:
    optimizer = build_optimizer(trainee, config)
    curve, losses, first = _resume(trainee, optimizer, checkpoints)
    held_out = data.held_out.fixed(config.evaluation_windows, seed)
    if config.steps == 0 or (first == 0 and not curve):
        curve = [{"step": 0, **evaluate(trainee, held_out, config, seed)}]
        report(0, curve[-1], config.steps)
    for step in range(first, config.steps):
        losses.append(_step(trainee, optimizer, data.training, config, seed, step))
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
            for name, value in trainee(part, seed, "held out", start)[1].items():
                sums.setdefault(name, []).append(value)
    trainee.train()
    totals = {name: (sum(v.total for v in values), sum(v.number for v in values)) for name, values in sums.items()}
    return {f"held_out_{name}": total / count for name, (total, count) in totals.items() if count}


def identity(*parts: object) -> str:
    """The digest that tells one training from another: configuration, data, base, code."""
    return digest(list(parts))


def _step(
    trainee: Trainee, optimizer: torch.optim.Optimizer, windows: Windows, config: TrainingConfig, seed: int, step: int
) -> float:
    batch = windows.batch(step, config.batch_size, derive_seed(seed, "windows"))
    with _precision(config):
        loss, _ = trainee(batch, seed, "training", step)
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
