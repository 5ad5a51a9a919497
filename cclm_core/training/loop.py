"""The one training loop: any number of objectives over one encoder, resumed exactly from a checkpoint."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.corpus.parallel import prefetch
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.objectives.base import Example, Objective, Sums
from cclm_core.runtime.device import autocast, chosen_device, device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive, derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.compiling import compile_encoder
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.ending import ENDED, asked_to_end
from cclm_core.training.optimizer import build_optimizer, learning_rate
from cclm_core.training.progress import Point, Progress, from_checkpoint, to_checkpoint
from cclm_core.training.update import update


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
        kinds = [type(objective) for objective, _ in objectives]
        # Two objectives of one kind measure the same things: the number of the objective tells their metrics apart.
        self.marks = [f"_{number}" if kinds.count(kind) > 1 else "" for number, kind in enumerate(kinds, start=1)]

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
        """The weighted loss () of one example for each objective; they are moved to where the weights are."""
        device, losses = device_of(self), []
        metrics: dict[str, Sums] = {}
        for mark, objective, factor, made in zip(self.marks, self.objectives, self.factors, examples, strict=True):
            assert isinstance(objective, Objective)
            example = made.to(device)
            loss, values = objective.loss(self.encoder(example.ids), example)
            losses.append(factor * loss)
            metrics |= {f"{name}{mark}": value for name, value in values.items()}
        return sum(losses[1:], losses[0]), metrics

    def judged(self, point: Point) -> float:
        """The held-out figure by which evaluations are compared, lower is better: headlines times their factors.

        Raises:
            TrainingError: the held-out windows have nothing that an objective could be judged by.
        """
        total = 0.0
        for mark, objective, factor in zip(self.marks, self.objectives, self.factors, strict=True):
            name = f"held_out_{objective.headline}{mark}"
            if name not in point:
                raise TrainingError(
                    f"the held-out windows must hold something for {type(objective).__name__} to predict, to tell "
                    "which weights are the best, but they do not; raise training.evaluation_windows, give the "
                    "validation split more text, or set keep: last and patience: null."
                )
            total += factor * point[name]
        return total


def train(
    trainee: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints | None,
    report: Report,
    workers: int = 1,
) -> list[Point]:
    """Trains in place, from the newest checkpoint if there is one; returns the learning curve.

    It computes on the chosen device (`cclm_core.runtime.device`) and moves the trainee back afterwards. A checkpoint of
    one device resumes on any other. Without `checkpoints` nothing is saved.

    A SIGTERM ends it after the step that is under way, with a checkpoint, and exit code 143. The last step is saved
    too: a caller that fails to publish the result loses nothing. Where the best weights are kept, they are what the
    trainee has at the end; every checkpoint holds them beside the last ones, until the caller clears the checkpoints.

    Each point of the curve holds `step`, `learning_rate`, the mean training `loss` since the last point, and every
    held-out metric as `held_out_NAME`. A resumed training gives the same bits as one that was never interrupted,
    on the same kind of CPU; so does one with another number of `workers`, the threads that make batches ahead. Where
    the best weights are kept, the curve ends with a second copy of their point.

    Raises:
        ConfigError: the device is not there, or no compiler where one is asked for.
        TrainingError: a loss, a gradient or a held-out metric is not finite; the step and the batch are named.
    """
    with _threads(config.threads):
        before, device = device_of(trainee), chosen_device()
        if config.compile:
            compile_encoder(trainee.encoder, device)
        try:
            return _train(trainee.to(device), data, config, seed, checkpoints, report, workers)
        finally:
            trainee.to(before)


def _train(
    trainee: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints | None,
    report: Report,
    workers: int,
) -> list[Point]:
    optimizer = build_optimizer(trainee, config)
    newest = checkpoints.newest() if checkpoints else None
    progress = from_checkpoint(newest, trainee, optimizer) if newest else Progress()
    first = newest.step if newest else 0
    held_out = data.held_out.fixed(config.evaluation_windows, seed)
    if not progress.curve:
        progress.add({"step": 0, **evaluate(trainee, held_out, config, seed)})
        report(0, progress.curve[0], config.steps)
    remaining = range(first, first if _is_stalled(progress, config) else config.steps)
    prepared = partial(_prepared, trainee, data.training, config, seed)
    with prefetch(prepared, remaining, workers) as steps, asked_to_end() as is_asked:
        for step, batches in enumerate(steps, start=first):
            progress.losses.append(update(trainee, optimizer, batches, config, step))
            done = step + 1
            is_last = done == config.steps
            if done % config.evaluate_every == 0 or is_last:
                training = {"learning_rate": learning_rate(step, config), "loss": float(np.mean(progress.losses))}
                values = training | evaluate(trainee, held_out, config, seed)
                progress.add({"step": done, **values})
                report(done, values, config.steps)
                if config.keep == "best" or config.patience is not None:
                    progress.judge(trainee.judged(values), trainee, keep=config.keep == "best")
                is_last = is_last or _is_stalled(progress, config)
            elif done % 10 == 0:
                report(done, {"loss": progress.losses[-1]}, config.steps)
            must_end = is_asked()
            if checkpoints and (is_last or must_end or done % config.checkpoint_every == 0):
                checkpoints.save(to_checkpoint(done, trainee, optimizer, progress))
            if must_end:
                raise SystemExit(ENDED)
            if is_last:
                break
    if progress.best:
        trainee.load_state_dict(progress.best)
        progress.curve.append(next(point for point in progress.curve if point["step"] == progress.best_step))
    return progress.curve


def _prepared(trainee: Trainee, windows: Windows, config: TrainingConfig, seed: int, step: int) -> list[list[Example]]:
    """The examples of a step (from 0): for each batch that it accumulates one for each objective."""
    numbers = range(step * config.accumulate, (step + 1) * config.accumulate)
    order = derive_seed(seed, "windows")
    batches = ((number, windows.batch(number, config.batch_size, order)) for number in numbers)
    made = [trainee.examples(batch, True, seed, "training", number) for number, batch in batches]
    if device_of(trainee).type == "cuda":
        return [[example.pinned() for example in some] for some in made]
    return made


def _is_stalled(progress: Progress, config: TrainingConfig) -> bool:
    return config.patience is not None and progress.since_best >= config.patience


def evaluate(trainee: Trainee, batch: WindowBatch, config: TrainingConfig, seed: int) -> Point:
    """Held-out metrics of fixed windows under a fixed corruption, by name `held_out_NAME`.

    Raises:
        TrainingError: one is not finite.
    """
    sums: dict[str, list[Sums]] = {}
    trainee.eval()
    with torch.no_grad(), autocast(device_of(trainee), config.precision):
        for start in range(0, len(batch.ids), config.batch_size):
            rows = slice(start, start + config.batch_size)
            part = WindowBatch(batch.ids[rows], batch.tags[rows], batch.lengths[rows])
            examples = trainee.examples(part, False, seed, "held out", start)
            for name, value in trainee(examples)[1].items():
                sums.setdefault(name, []).append(value)
    trainee.train()
    totals = {name: (sum(v.total for v in values), sum(v.number for v in values)) for name, values in sums.items()}
    means = {f"held_out_{name}": total / count for name, (total, count) in totals.items() if count}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise TrainingError(
                f"{name} must be finite, but it is {mean}: the weights are of no use. Lower training.learning_rate or "
                "use precision fp32. The newest checkpoint is kept."
            )
    return means


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
