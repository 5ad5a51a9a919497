"""The training loop: one encoder, any number of objectives, bit-exact resume from a checkpoint."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.parallel import prefetch
from cclm_core.corpus.windows import Windows
from cclm_core.objectives.base import Example, Sums, pinned
from cclm_core.runtime.device import autocast, device_of, num_threads, select_device
from cclm_core.runtime.errors import TrainingError
from cclm_core.runtime.random import derive_seed
from cclm_core.runtime.reporting import Report
from cclm_core.training.average import Average
from cclm_core.training.checkpoint import Checkpoints, Progress, from_checkpoint, to_checkpoint
from cclm_core.training.config import TrainingConfig
from cclm_core.training.module import compile_encoder
from cclm_core.training.optimizer import build_optimizer, learning_rate, update
from cclm_core.training.trainee import Batch, Data, Point, Source, Trainee

_REPORT_EVERY = 10  # steps

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that was stopped by SIGTERM, as shells report it."""


def open_data(corpus: EncodedCorpus, config: TrainingConfig) -> Data:
    """The training and held-out windows for this configuration."""
    splits = (corpus.split("train"), corpus.split("validation"))
    return Data(*(Windows(split, config.window, config.variants, config.cache_features is None) for split in splits))


def train(
    module: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints | None,
    report: Report,
    workers: int = 1,
) -> list[Point]:
    """Trains `module` in place and returns the learning curve. Resumes from the newest checkpoint, if any.

    Trains on the selected device (`cclm_core.runtime.device`), then moves the module back. A checkpoint can be resumed
    on any device. On the same kind of CPU, a resumed training gives the same bits as an uninterrupted one.

    The last step is saved too, so a failure to publish the result does not lose the training. SIGTERM stops the
    training after the current step: it saves a checkpoint and exits with code 143.

    With `average` the module ends up with the averaged weights, and so do the evaluations once the average has begun.
    With `keep: best` the module ends up with the best weights, and the curve ends with a copy of the best point. Each
    checkpoint contains both the best and the last weights.

    Args:
        module: encoder and objectives, or another `Trainee`.
        data: training and held-out rows.
        config: the training settings.
        seed: seed of batches, corruption and noise.
        checkpoints: where to save and resume; None to save nothing.
        report: receives losses and held-out metrics.
        workers: number of threads that prefetch batches; does not change the result.

    Raises:
        ConfigError: the device does not exist, or `compile` is set and no compiler is installed.
        TrainingError: a loss, gradient or held-out metric is not finite. The message gives the step and the batch.
    """
    with num_threads(config.threads):
        original_device, device = device_of(module), select_device()
        if config.compile:
            compile_encoder(module.encoder, device)
        try:
            return _train(module.to(device), data, config, seed, checkpoints, report, workers)
        finally:
            module.to(original_device)


def _train(
    module: Trainee,
    data: Data,
    config: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints | None,
    report: Report,
    workers: int,
) -> list[Point]:
    optimizer = build_optimizer(module, config, module.rate_factors())
    newest = checkpoints.newest() if checkpoints else None
    average = Average(module, config)
    progress = from_checkpoint(newest, module, optimizer, average) if newest else Progress()
    first = newest.step if newest else 0
    held_out = data.held_out.fixed(config.evaluation_windows, seed)
    if not progress.curve:
        progress.add({"step": 0, **evaluate(module, held_out, config, seed)})
        report(0, {name: value for name, value in progress.curve[0].items() if name != "step"}, config.steps)
    remaining = range(first, first if _is_stalled(progress, config) else config.steps)
    prepare = partial(_prepare_step, module, data.training, config, seed)
    with prefetch(prepare, remaining, workers) as steps, _catch_sigterm() as has_sigterm:
        for step, batches in enumerate(steps, start=first):
            module.begin_step(step)
            progress.losses.append(update(module, optimizer, batches, config, step))
            done = step + 1
            average.update(done)
            is_last = done == config.steps
            if done % config.evaluate_every == 0 or is_last:
                training = {"learning_rate": learning_rate(step, config), "loss": float(np.mean(progress.losses))}
                latest_loss = _latest_loss(progress.losses, done, config)
                with average.applied():
                    values = training | evaluate(module, held_out, config, seed)
                    progress.add({"step": done, **values})
                    report(done, values | {"loss": latest_loss}, config.steps)
                    if config.keep == "best" or config.patience is not None:
                        progress.compare(module.selection_value(values), module, keep=config.keep == "best")
                is_last = is_last or _is_stalled(progress, config)
            elif done % _REPORT_EVERY == 0:
                report(done, {"loss": _latest_loss(progress.losses, done, config)}, config.steps)
            must_stop = has_sigterm()
            if checkpoints and (is_last or must_stop or done % config.checkpoint_every == 0):
                checkpoints.save(to_checkpoint(done, module, optimizer, progress, average))
            if must_stop:
                raise SystemExit(TERMINATED)
            if is_last:
                break
    average.publish()
    if progress.best:
        module.load_state_dict(progress.best)
        progress.curve.append(next(point for point in progress.curve if point["step"] == progress.best_step))
    return progress.curve


def _prepare_step(module: Trainee, source: Source, config: TrainingConfig, seed: int, step: int) -> list[list[Example]]:
    """The examples of step `step` (from 0): for each accumulated batch, one example per objective."""
    numbers = range(step * config.accumulate, (step + 1) * config.accumulate)
    order = derive_seed(seed, "windows")
    batches = ((number, source.batch(number, config.batch_size, order)) for number in numbers)
    total = max(1, config.steps * config.accumulate - 1)
    batches_of_examples = [module.training_examples(batch, seed, number, number / total) for number, batch in batches]
    if device_of(module).type == "cuda":
        return [pinned(examples) for examples in batches_of_examples]
    return batches_of_examples


def _latest_loss(losses: Sequence[float], done: int, config: TrainingConfig) -> float:
    """The mean loss of the steps since the last report, so that all points of a reported curve mean the same.

    Args:
        losses: one per step since the last evaluation.
        done: number of finished steps.
        config: the training settings.
    """
    before = done - 1
    last = max(before - before % _REPORT_EVERY, before - before % config.evaluate_every)
    return float(np.mean(losses[-(done - last) :]))


def _is_stalled(progress: Progress, config: TrainingConfig) -> bool:
    return config.patience is not None and progress.since_best >= config.patience


def evaluate(module: Trainee, batch: Batch, config: TrainingConfig, seed: int) -> Point:
    """Held-out metrics on `batch`, named `held_out_NAME`. The corruption depends only on `seed`.

    Metrics without any target in the windows are left out.

    Raises:
        TrainingError: a metric is not finite.
    """
    sums: dict[str, list[Sums]] = {}
    module.eval()
    with torch.no_grad(), autocast(device_of(module), config.precision):
        for start in range(0, batch.num_rows, config.batch_size):
            part = batch.rows(start, start + config.batch_size)
            examples = module.examples(part, False, seed, "held out", start)
            for name, value in module(examples)[1].items():
                sums.setdefault(name, []).append(value)
    module.train()
    totals = {name: (sum(v.total for v in values), sum(v.number for v in values)) for name, values in sums.items()}
    means = {f"held_out_{name}": total / count for name, (total, count) in totals.items() if count}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise TrainingError(
                f"{name} must be finite, got {mean}. Lower training.learning_rate or use precision fp32. The newest "
                "checkpoint is kept."
            )
    return means


@contextmanager
def _catch_sigterm() -> Iterator[Callable[[], bool]]:
    """Catches SIGTERM, and yields a function that returns whether one was received.

    Only the main thread can handle signals. In any other thread the function returns False.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    handler = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, handler)
