"""The one training loop: any number of objectives over one encoder, resumed exactly from a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

_SIGTERM_EXIT = 128 + signal.SIGTERM


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

    def judged(self, point: Point) -> float:
        """The held-out figure by which evaluations are compared, lower is better: headlines times their factors."""
        headlines = (
            (objective.headline, factor) for objective, factor in zip(self.objectives, self.factors, strict=True)
        )
        return sum(factor * point[f"held_out_{name}"] for name, factor in headlines)


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

    A SIGTERM ends it after the step that is under way, with a checkpoint, and exit code 143.

    Each point of the curve holds `step`, `learning_rate`, the mean training `loss` since the last point, and every
    held-out metric as `held_out_NAME`. A resumed training gives the same bits as one that was never interrupted,
    on the same kind of CPU; so does one with another number of `workers`, the threads that make batches ahead. Where
    the best weights are kept, the curve ends with a second copy of their point.

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
    progress, first = _resume(trainee, optimizer, checkpoints)
    curve, losses = progress.curve, progress.losses
    held_out = data.held_out.fixed(config.evaluation_windows, seed)
    if config.steps == 0 or (first == 0 and not curve):
        curve.append({"step": 0, **evaluate(trainee, held_out, config, seed)})
        report(0, curve[-1], config.steps)
    order = derive_seed(seed, "windows")

    def prepared(step: int) -> list[list[Example]]:
        numbers = range(step * config.accumulate, (step + 1) * config.accumulate)
        batches = ((number, data.training.batch(number, config.batch_size, order)) for number in numbers)
        return [trainee.examples(batch, True, seed, "training", number) for number, batch in batches]

    def save(done: int) -> None:
        tensors = {f"model.{name}": value for name, value in trainee.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
        tensors |= {f"best.{name}": value for name, value in progress.best.items()}
        checkpoints.save(Checkpoint(done, tensors, progress.facts()))

    remaining = range(first, first if _is_stalled(progress, config) else config.steps)
    with made_ahead(prepared, remaining, workers) as batches, _asked_to_end() as is_asked:
        for step, parts in enumerate(batches, start=first):
            losses.append(_step(trainee, optimizer, parts, config, step))
            done = step + 1
            if done % config.evaluate_every == 0 or done == config.steps:
                mean = float(np.mean(losses))
                rate = learning_rate(step, config)
                metrics = evaluate(trainee, held_out, config, seed)
                curve.append({"step": done, "learning_rate": rate, "loss": mean, **metrics})
                losses.clear()
                report(done, {name: value for name, value in curve[-1].items() if name != "step"}, config.steps)
                progress.judge(trainee, keep=config.keep == "best")
                if _is_stalled(progress, config):
                    break
            elif done % 10 == 0:
                report(done, {"loss": losses[-1]}, config.steps)
            if done < config.steps and (done % config.checkpoint_every == 0 or is_asked()):
                save(done)
            if is_asked():
                raise SystemExit(_SIGTERM_EXIT)
    if progress.best:
        trainee.load_state_dict(progress.best)
        curve.append(next(point for point in curve if point["step"] == progress.best_step))
    return curve


class _Progress:
    """What a training knows beside its weights: its curve, and the best evaluation so far."""

    def __init__(self, facts: dict[str, Any] | None = None, best: dict[str, Tensor] | None = None) -> None:
        facts = facts or {"curve": [], "losses": [], "best_step": 0, "best_value": None, "since_best": 0}
        self.curve: list[Point] = facts["curve"]
        self.losses: list[float] = facts["losses"]
        self.best_step: int = facts["best_step"]
        self.best_value: float | None = facts["best_value"]
        self.since_best: int = facts["since_best"]
        self.best = best or {}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds of it, beside the best weights."""
        names = ("curve", "losses", "best_step", "best_value", "since_best")
        return {name: getattr(self, name) for name in names}

    def judge(self, trainee: Trainee, keep: bool) -> None:
        """Looks at the newest evaluation; keeps a copy of the weights if it is the best and `keep` is true."""
        value = trainee.judged(self.curve[-1])
        if self.best_value is not None and value >= self.best_value:
            self.since_best += 1
            return
        self.best_step, self.best_value, self.since_best = int(self.curve[-1]["step"]), value, 0
        if keep:
            self.best = {name: tensor.detach().clone() for name, tensor in trainee.state_dict().items()}


def _is_stalled(progress: _Progress, config: TrainingConfig) -> bool:
    return config.patience is not None and progress.since_best >= config.patience


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
    trainee: Trainee, optimizer: torch.optim.Optimizer, parts: list[list[Example]], config: TrainingConfig, step: int
) -> float:
    """One step over the gradients of all parts; returns their mean loss."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for number, examples in enumerate(parts):
        with _precision(config):
            loss, _ = trainee(examples)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss must be finite, but it is {value} at step {step + 1} (batch {step * len(parts) + number}); "
                "lower training.learning_rate or use precision fp32. The newest checkpoint is kept."
            )
        (loss if len(parts) == 1 else loss / len(parts)).backward()
        total += value
    torch.nn.utils.clip_grad_norm_((p for p in trainee.parameters() if p.requires_grad), config.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.step()
    return total / len(parts)


def _resume(trainee: Trainee, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints) -> tuple[_Progress, int]:
    checkpoint = checkpoints.newest()
    if checkpoint is None:
        return _Progress(), 0
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    for name, tensor in checkpoint.tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = tensor
    trainee.load_state_dict(groups["model"])
    load_optimizer_tensors(optimizer, groups["optimizer"])
    return _Progress(checkpoint.facts, groups["best"]), checkpoint.step


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Notes a SIGTERM instead of dying of it, so that the step can be finished and saved; only in the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


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
