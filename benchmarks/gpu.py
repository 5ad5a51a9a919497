"""Tries training on a GPU in at most 8 minutes: tests, speed, exact resume, optimizers, and a base for 3 minutes.

    python benchmarks/gpu.py [--out gpu.json] [--text FILE …] [--recipe FILE] [--minutes 8] [--dry-run] [--json]

Needs one GPU and the dependencies of the library alone (no extra); the tests of the first part also need pytest. The
text is that of FILE, or the novels in ../shared/data, or the corpus of `cclm run`, or else the source code of Python's
standard library; the rows name it. OUT gets the rows, the name of the device and the versions after each part, so that
an interrupted run is not lost. `--dry-run` runs every part on the CPU with tiny models, in a few seconds.

The parts, in this order:

- `tests`: the tests with the marker `gpu`.
- `matmul`: the product of two bf16 matrices, in TFLOP/s. The other speeds are compared with it.
- `speed/SIZE/eager`: training of bases with 12, 48 and 150 million parameters: characters per second of steps on
  batches that are already prepared, and operations per second as a share of `matmul` (counted by torch; a
  multiply-add is two). `loop` adds what the training loop does: batches, masks, transfers.
- `resume`: the largest difference of any weight between a training that was resumed in the middle and one that was not
  interrupted, next to that of two equal trainings. On a CPU, both are 0.
- `optimizers`: held-out bits per masked character of AdamW and Muon after the same seconds, at large batches.
- `base`: held-out bits after 3 minutes with the training loop: of the smallest size, or of the base of a recipe, with
  as many characters per step as the other parts.
- `speed/SIZE/compiled`: as above, with `training.compile`. The last part, because it can take minutes to compile.

A part for which the time is too short is cut short or left out; its row then has a note.
"""

import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_study import DRY, REAL, SEED, WORKERS, Study, read_texts
from optimizers import Side
from rows import Row, options, show
from torch.utils.flop_counter import FlopCounterMode

from cclm_core.corpus.parallel import prefetch
from cclm_core.runtime.device import VARIABLE
from cclm_core.runtime.reporting import format_number, null_report
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule, compile_encoder
from cclm_core.training.optimizer import build_optimizer, update

TEST_SECONDS = 120
TESTS = ("tests/training/test_device.py", "tests/runtime/test_device.py")


class OutOfTimeError(Exception):
    """The minutes are over."""


def tests(study: Study) -> Iterator[Row]:
    """Runs the tests with the marker `gpu`; without a GPU, only collects them."""
    only_collect = [] if study.device.type == "cuda" else ["--collect-only"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *only_collect, *TESTS]
    root = Path(__file__).parents[1]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        yield Row("tests", 0.0, "1: passed", f"not finished after {TEST_SECONDS} s", None, "higher")
        return
    lines = (result.stdout.strip() or result.stderr.strip() or "no output").splitlines()
    counts = ", ".join(lines[-len(TESTS) :] if only_collect else lines[-1:])
    if result.returncode:
        print(result.stdout + result.stderr, file=sys.stderr)
    yield Row("tests", float(result.returncode == 0), "1: passed", counts, None, "higher")


def matmul(study: Study) -> Iterator[Row]:
    """Measures the product of two bf16 matrices."""
    size = study.plan.matrix
    generator = torch.Generator(study.device).manual_seed(SEED)
    left, right = torch.randn(2, size, size, device=study.device, generator=generator).to(torch.bfloat16)
    study.peak = 2 * size**3 / study.seconds(lambda _: torch.mm(left, right), study.plan.steps)
    yield Row("matmul", study.peak / 1e12, "TFLOP/s", f"bf16, {size} x {size}", None, "higher")


def speed(study: Study, size: int, is_compiled: bool) -> Iterator[Row]:
    """Measures training steps of one size, and the training loop if it is not compiled."""
    module, config = study.module(size), study.config(steps=10**6)
    number = sum(weight.numel() for weight in module.parameters())
    flops = _operations(study, module, config)
    if study.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    if is_compiled:
        if study.plan.backend == "inductor":
            compile_encoder(module.encoder, study.device)
        else:
            module.encoder.compile(backend=study.plan.backend)
    optimizer = Side.parse("adamw:1e-4").build(module, config.weight_decay)
    prepared = [study.examples(module, config, step) for step in range(4)]
    study.seconds(lambda step: update(module, optimizer, [prepared[step % 4]], config, step), 1)  # compiles
    ready = time.perf_counter() - start
    seconds = study.seconds(
        lambda step: update(module, optimizer, [prepared[step % 4]], config, step), study.plan.steps
    )
    characters = config.batch_size * config.window
    name = f"speed/{format_number(number)}/{'compiled' if is_compiled else 'eager'}"
    facts = f"{config.batch_size} x {config.window} characters, {1e3 * seconds:.1f} ms per step, ready in {ready:.0f} s"
    if study.device.type == "cuda":
        facts += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    yield Row(name, characters / seconds, "characters/s", facts, None, "higher")
    peer = f"matmul: {study.peak / 1e12:.4g} TFLOP/s"
    yield Row(f"{name}/utilization", flops / seconds / 1e12, "TFLOP/s", peer, flops / seconds / study.peak, "higher")
    if is_compiled:
        return
    steps = range(2 * study.plan.steps)
    with prefetch(partial(study.examples, module, config), steps, WORKERS) as batches:
        first = next(batches)
        start = time.perf_counter()
        update(module, optimizer, [first], config, 0)
        for step, examples in enumerate(batches, start=1):
            update(module, optimizer, [examples], config, step)
        study.wait()
        loop = characters * len(steps) / (time.perf_counter() - start)
    peer = f"prepared batches: {format_number(characters / seconds)} characters/s; {WORKERS} threads prepare batches"
    yield Row(f"{name}/loop", loop, "characters/s", peer, loop * seconds / characters, "higher")


def _operations(study: Study, module: TrainingModule, config: TrainingConfig) -> int:
    """Floating-point operations of one step, without the optimizer."""
    examples = study.examples(module, config, 0)
    with FlopCounterMode(display=False) as counter, torch.autocast(study.device.type, torch.bfloat16):
        module(examples)[0].backward()
    module.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def resume(study: Study) -> Iterator[Row]:
    """Compares a resumed training with trainings that were not interrupted."""
    steps = study.plan.resume_steps
    config = study.config(steps=steps, checkpoint_every=steps // 2, evaluate_every=steps)
    weights = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("whole", "again", "whole"):
            checkpoints = Checkpoints(Path(folder) / name, "0" * 64)
            if weights and name == "whole":
                max(checkpoints.folder.glob("step-*")).unlink()  # leaves the checkpoint in the middle
            module = study.module()
            train(module, study.data, config, SEED, checkpoints, null_report, WORKERS)
            weights.append({key: value.detach().cpu().clone() for key, value in module.state_dict().items()})
    again, resumed = (max(float((weights[0][key] - other[key]).abs().max()) for key in other) for other in weights[1:])
    peer = f"two equal trainings: {again:.2g}; {steps} steps, resumed after {steps // 2}"
    yield Row("resume/difference", resumed, "largest difference of a weight", peer, None, "lower")


def optimizers(study: Study) -> Iterator[Row]:
    """Compares AdamW and Muon after the same seconds."""
    config = study.config(batch_size=study.plan.large)
    first = None
    for text in study.plan.sides:
        if study.left < 2 * study.plan.optimizer_seconds + study.plan.base_seconds:  # evaluation takes time, too
            yield Row(f"optimizers/{text}", math.nan, "bits", "left out: no time", None, "lower")
            continue
        bits, steps, spent = study.learn(Side.parse(text), config, study.plan.optimizer_seconds)
        first = first or bits
        facts = (
            f"{study.plan.sides[0]}: {first:.3f} bits; {steps} steps of {config.batch_size} windows in {spent:.0f} s"
        )
        yield Row(f"optimizers/{text}", bits, "bits", facts, bits / first, "lower")


def base(study: Study) -> Iterator[Row]:
    """Trains a base with the training loop."""
    wanted = study.plan.base_seconds
    seconds = min(wanted, study.left - 10)
    if seconds < wanted / 4:
        yield Row("base", math.nan, "bits", "left out: no time", None, "lower")
        return
    config, data = study.base.training, study.windows(study.base.training.window)
    module = study.build(study.base)
    per_step = study.trial(module, build_optimizer(module, config, module.rate_factors()), config, data)
    steps = max(8, round(seconds / per_step))
    config = config.model_copy(update={"steps": steps, "evaluate_every": max(1, steps // 6)})
    start = time.perf_counter()
    curve = train(study.build(study.base), data, config, SEED, None, null_report, WORKERS)
    spent = time.perf_counter() - start
    name = next(key for key in curve[0] if key.startswith("held_out_"))
    values = [f"{point[name]:.3f}" for point in curve]
    characters = steps * config.batch_size * config.window
    facts = f"{format_number(characters / spent)} characters/s, {steps} steps, {spent:.0f} s; curve {' '.join(values)}"
    facts += f"; {format_number(characters / study.data.training.num_ids)} epochs of {study.description}"
    yield Row("base", curve[-1][name], name.removeprefix("held_out_").replace("_", " "), facts, None, "lower")


def compiled(study: Study) -> Iterator[Row]:
    """Measures compiled training; stops when the time is over."""
    for size in range(len(study.plan.sizes)):
        try:
            if study.left < 1:
                raise OutOfTimeError
            signal.signal(signal.SIGALRM, _out_of_time)
            signal.setitimer(signal.ITIMER_REAL, study.left)
            yield from speed(study, size, is_compiled=True)
        except OutOfTimeError:
            yield Row(f"speed/size {size + 1}/compiled", math.nan, "characters/s", "left out: no time", None)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _out_of_time(*_: Any) -> None:
    raise OutOfTimeError


def eager(study: Study) -> Iterator[Row]:
    """Measures the speed of all sizes."""
    for size in range(len(study.plan.sizes)):
        yield from speed(study, size, is_compiled=False)


def facts_of(device: torch.device, description: str) -> dict[str, Any]:
    """The device, the versions and the text, for the JSON file."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {"device": name, "versions": versions | {"cuda": torch.version.cuda}, "text": description, "seed": SEED}


def main() -> None:
    """Runs all parts; writes JSON after each, and prints the table."""
    parser = options(__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of the results (default: gpu.json)")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files to train on")
    parser.add_argument("--recipe", type=Path, help="a params.yaml with the base to train (default: the 12 M one)")
    parser.add_argument("--minutes", type=float, default=8, help="end after this time (default: 8)")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny models")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes - 15  # 15 seconds to start and to end
    if args.dry_run:
        os.environ[VARIABLE] = "cpu"
    elif not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU. Run it on a machine with one, or with --dry-run.")
    description, texts = read_texts(args.text, args.dry_run)
    study = Study(DRY if args.dry_run else REAL, texts, description, end, args.recipe)
    facts, rows = facts_of(study.device, description), list[Row]()
    for part in (tests, matmul, eager, resume, optimizers, base, compiled):
        for row in part(study):
            rows.append(row)
            values = [row._asdict() | {"value": None if math.isnan(row.value) else row.value} for row in rows]
            args.out.write_text(json.dumps(facts | {"rows": values}, indent=1))
            print(f"{row.name}: {row.value:.4g} {row.unit} ({row.peer})", file=sys.stderr, flush=True)
    show(f"Training on {facts['device']}, torch {torch.__version__}", rows, args.json)


if __name__ == "__main__":
    main()
