"""The sizes of benchmarks/gpu.py, its text, and what its parts share."""

import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from encoding import CORPUS, NOVELS, paragraphs
from optimizers import Side

from cclm_core.corpus.parallel import prefetch
from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Example, ObjectiveContext
from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.device import select_device
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.text.config import VocabularyConfig
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import BaseConfig, TrainingConfig
from cclm_core.training.loop import evaluate
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import update
from cclm_core.training.trainee import Data

SEED, WORKERS = 1, 8
OBJECTIVE = {"objective": "masked_characters", "rate": 0.4}
NGRAMS = {"ngram_sizes": [2, 3, 4, 5], "ngram_buckets": 16384}
MANY = NGRAMS | {"ngram_buckets": 32768}


class Plan(NamedTuple):
    """Sizes of a run.

    Args:
        sizes: embedders to measure; the first one is trained in the other parts.
        matrix: side of the matrices of `matmul`.
        window, batch: characters per window, windows per batch.
        large: windows per batch for the optimizers.
        steps: measured steps per speed.
        resume_steps: steps of the trainings of `resume`.
        optimizer_seconds: seconds per optimizer.
        base_seconds: seconds of the base.
        trial_steps: steps that measure how many steps fit into some seconds.
        sides: the optimizers with their learning rates.
        backend: what compiles.
    """

    sizes: list[dict[str, Any]]
    matrix: int
    window: int
    batch: int
    large: int
    steps: int
    resume_steps: int
    optimizer_seconds: float
    base_seconds: float
    trial_steps: int
    sides: tuple[str, ...]
    backend: str


REAL = Plan(
    sizes=[
        {"embedding": NGRAMS},
        {"embedding": MANY, "encoder": {"core_width": 640, "num_layers": 6, "num_heads": 10, "width": 256}},
        {
            "embedding": MANY | {"width": 192},
            "encoder": {"core_width": 1024, "num_layers": 10, "num_heads": 16, "width": 384},
        },
    ],
    matrix=8192,
    window=256,
    batch=256,
    large=1024,
    steps=30,
    resume_steps=20,
    optimizer_seconds=15,
    base_seconds=180,
    trial_steps=40,
    sides=("adamw:4e-3", "adamw:8e-3", "muon:8e-3", "muon:16e-3"),
    backend="inductor",
)
DRY = Plan(
    sizes=[
        {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": {"core_width": 32, "num_layers": 1, "width": 16}},
        {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": {"core_width": 64, "num_layers": 1, "width": 16}},
    ],
    matrix=128,
    window=32,
    batch=4,
    large=8,
    steps=2,
    resume_steps=4,
    optimizer_seconds=0.1,
    base_seconds=0.2,
    trial_steps=4,
    sides=("adamw:4e-3", "muon:8e-3"),
    backend="eager",
)


def read_texts(paths: Sequence[Path], dry_run: bool) -> tuple[str, list[str]]:
    """A description of the text, and its paragraphs."""
    if paths:
        whole = "\n\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
        return f"{len(paths)} files", [part for part in whole.split("\n\n") if part.strip()]
    if dry_run:
        return "this script", Path(__file__).read_text(encoding="utf-8").split("\n\n")
    if NOVELS.is_dir() or CORPUS.is_dir():
        return paragraphs()
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    whole = "\n\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sources)
    return "the source code of the standard library", [part for part in whole.split("\n\n") if part.strip()]


class Study:
    """Trains embedders on masked characters.

    Args:
        plan: the sizes.
        texts: paragraphs; every hundredth is held out.
        description: of the text.
        end: value of `time.monotonic` at which the run must be over.
        recipe: a params.yaml with the base to train; None for the first size.
    """

    def __init__(
        self, plan: Plan, texts: Sequence[str], description: str, end: float, recipe: Path | None = None
    ) -> None:
        self.plan, self.description, self.end = plan, description, end
        self.base = self._base(recipe)
        self.device = select_device()
        self.preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
        self._splits = [self._encode(texts[number::100] for number in range(1, 100)), self._encode([texts[::100]])]
        self.data = self.windows(plan.window)
        self.peak = 0.0

    def _base(self, recipe: Path | None) -> BaseConfig:
        """The configuration of the part `base`, with the windows per step of the plan."""
        values = {"embedder": self.plan.sizes[0], "objectives": [{"task": OBJECTIVE}], "training": {}}
        if recipe is not None:
            values = load_yaml(recipe).get("base", {})
        config = BaseConfig.parse(values, str(recipe or "base"))
        window = config.training.window if recipe else self.plan.window
        changes = {"window": window, "batch_size": max(1, self.plan.batch * self.plan.window // window)}
        changes |= {"precision": "auto", "compile": False, "keep": "last", "patience": None, "evaluation_windows": 512}
        return config.model_copy(update={"training": config.training.model_copy(update=changes)})

    def _encode(self, groups: Iterable[Sequence[str]]) -> Any:
        ids = np.concatenate([self.preprocessor.encode(f"{text}\n") for texts in groups for text in texts])
        return SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8))

    def windows(self, length: int) -> Data:
        """Training and held-out windows of `length` characters."""
        return Data(*(Windows(split, length) for split in self._splits))

    @property
    def left(self) -> float:
        """Seconds until the run must be over."""
        return self.end - time.monotonic()

    def module(self, size: int = 0) -> TrainingModule:
        """A new embedder of a size, with its objective, on the device."""
        values = {"embedder": self.plan.sizes[size], "objectives": [{"task": OBJECTIVE}]}
        return self.build(BaseConfig.parse(values, "size"))

    def build(self, config: BaseConfig) -> TrainingModule:
        """A new embedder with its objectives, on the device."""
        with seeded_initialization(SEED):
            embedder = Embedder(self.preprocessor, config.embedder)
            noise = TrainingNoise(rate=0.03)
            context = ObjectiveContext(width=embedder.width, preprocessor=self.preprocessor, noise=noise)
            objectives = [(part.task.build(context), part.loss_weight) for part in config.objectives]
        return TrainingModule(embedder, objectives).to(self.device)

    def config(self, **changes: Any) -> TrainingConfig:
        """The settings of a training."""
        batch = changes.get("batch_size", self.plan.batch)
        settings = {"batch_size": batch, "window": self.plan.window, "warmup_steps": 20, "evaluation_windows": 512}
        return TrainingConfig.parse(settings | changes, "training")

    def examples(
        self, module: TrainingModule, config: TrainingConfig, step: int, data: Data | None = None
    ) -> list[Example]:
        """The examples of a step, in pinned memory if there is a GPU."""
        batch = (data or self.data).training.batch(step, config.batch_size, derive_seed(SEED, "windows"))
        examples = module.examples(batch, True, SEED, "training", step)
        return [example.pinned() for example in examples] if self.device.type == "cuda" else examples

    def seconds(self, call: Callable[[int], Any], number: int) -> float:
        """Seconds per call, after a first one that is not measured."""
        call(0)
        self.wait()
        start = time.perf_counter()
        for turn in range(number):
            call(turn)
        self.wait()
        return (time.perf_counter() - start) / number

    def wait(self) -> None:
        """Waits until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def trial(self, module: TrainingModule, optimizer: Any, config: TrainingConfig, data: Data | None = None) -> float:
        """Seconds per step of a training with the optimizer, measured on the second half of the trial steps."""
        steps = self.plan.trial_steps
        prepare = partial(self.examples, module, config, data=data)
        start = 0.0
        with prefetch(prepare, range(steps), WORKERS) as batches:
            for step, examples in enumerate(batches):
                if step == steps // 2:
                    self.wait()
                    start = time.perf_counter()
                update(module, optimizer, [examples], config, step)
        self.wait()
        return (time.perf_counter() - start) / (steps - steps // 2)

    def learn(self, side: Side, config: TrainingConfig, seconds: float) -> tuple[float, int, float]:
        """Held-out bits, steps and seconds of a training of about `seconds`."""
        config = config.model_copy(update={"learning_rate": side.rate})
        module = self.module()
        per_step = self.trial(module, side.build(module, config.weight_decay), config)
        config = config.model_copy(update={"steps": max(8, round(seconds / per_step))})
        module = self.module()
        optimizer = side.build(module, config.weight_decay)
        start = time.perf_counter()
        with prefetch(partial(self.examples, module, config), range(config.steps), WORKERS) as batches:
            for step, examples in enumerate(batches):
                update(module, optimizer, [examples], config, step)
        self.wait()
        spent = time.perf_counter() - start
        return self.bits(module, config), config.steps, spent

    def bits(self, module: TrainingModule, config: TrainingConfig) -> float:
        """Held-out bits per masked character."""
        held_out = self.data.held_out.fixed(config.evaluation_windows, SEED)
        evaluation = config.model_copy(update={"batch_size": self.plan.batch})
        return evaluate(module, held_out, evaluation, SEED)["held_out_bits_per_masked_character"]
