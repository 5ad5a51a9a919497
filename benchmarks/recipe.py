"""Compares recipes for pretraining a base: held-out bits per masked character after equal processor time.

    python benchmarks/recipe.py RESULTS [--seconds 90] [--seeds 1,2,3] [--experiments "default;all"]
    python benchmarks/recipe.py RESULTS --report [--json]

An experiment is a set of settings of the embedder, of the objective and of the training; `EXPERIMENTS` lists them. All
are trained on the same text, which `task_data.py` reads, with one thread, and measured on the same held-out windows
with the same mask: 15 % of the characters, in spans of 2.5, whatever the experiment masks in training.

Each training takes as many processor seconds as the default takes for its steps. How many steps that are is measured
once per experiment, in turns with the default, so that other load on the machine slows both. A training then has its
full learning-rate schedule.

Results are appended to RESULTS, a file with a JSON object per line, so that an interrupted run goes on where it
stopped. `--report` prints a table: the mean over the seeds, and the difference to `default` and to `all` in standard
deviations of one training. That is the deviation between seeds, pooled over all experiments with at least two seeds.
A difference below two of them is not established.
"""

import json
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from rows import Row, options, seed_list, show
from task_data import general_texts

from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.masked_characters import MaskedCharacters, MaskedCharactersConfig
from cclm_core.runtime.config import digest
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.runtime.reporting import format_number, null_report
from cclm_core.text.config import VocabularyConfig
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import evaluate, train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Data

DEFAULT, ALL = "default", "all"
WINDOW, HELD_OUT_EVERY, HELD_OUT_WINDOWS = 256, 20, 512
SHORT, TURNS = 12, 3  # steps of a timed training; pairs of timed trainings
MASK = MaskedCharactersConfig(rate=0.15, mean_span=2.5)
METRIC = "held_out_bits_per_masked_character"


class Settings(NamedTuple):
    """The keys of one experiment; keys that are left out have their defaults."""

    embedder: dict[str, Any] = {}  # noqa: RUF012  never changed
    task: dict[str, Any] = {}  # noqa: RUF012
    training: dict[str, Any] = {}  # noqa: RUF012


NGRAMS = {"embedding": {"ngram_sizes": [2, 3, 4, 5]}}
STRIDE = {"encoder": {"kind": "hourglass", "stride": 8}}
_EVERYTHING = Settings({**NGRAMS, **STRIDE}, {"rate": 0.4}, {"batch_size": 16})


def _all_with(task: dict[str, Any] | None = None, **training: Any) -> Settings:
    """`all` with other keys of the objective and of the training."""
    return Settings(_EVERYTHING.embedder, {**_EVERYTHING.task, **(task or {})}, {**_EVERYTHING.training, **training})


EXPERIMENTS = {
    DEFAULT: Settings(),
    "rate 0.4": Settings(task={"rate": 0.4}),
    "batch 16": Settings(training={"batch_size": 16}),
    "n-grams 2-5": Settings(NGRAMS),
    "stride 8": Settings(STRIDE),
    # What `cclm init` writes.
    ALL: _EVERYTHING,
    "all, stride 4": Settings(NGRAMS, _EVERYTHING.task, _EVERYTHING.training),
    "all, table rate 3": _all_with(table_rate=3.0),
    "all, table rate 3, no decay": _all_with(table_rate=3.0, table_decay=False),
    "all, table rate 10": _all_with(table_rate=10.0),
    "all, average 0.997": _all_with(average=0.997),
    "all, average 0.99": _all_with(average=0.99),
    "all, rate 0.4 to 0.15": _all_with({"final_rate": 0.15}),
    "all, linear": _all_with(schedule="linear"),
    "all, flat": _all_with(schedule="flat"),
    "all, beta2 0.99": _all_with(beta2=0.99),
}


@cache
def data() -> tuple[Preprocessor, Data]:
    """The vocabulary, and the windows for training and evaluation: one paragraph in 20 is held out."""
    texts = general_texts()
    held_out = derive(1, "held out").random(len(texts)) < 1 / HELD_OUT_EVERY
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)

    def windows(of_held_out: bool) -> Windows:
        """The windows of the held-out paragraphs, or of the others."""
        selected = [text for text, is_held_out in zip(texts, held_out, strict=True) if is_held_out == of_held_out]
        ids = np.concatenate([preprocessor.encode(f"{text}\n") for text in selected])
        return Windows(SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8)), WINDOW)  # type: ignore[arg-type]

    return preprocessor, Data(windows(of_held_out=False), windows(of_held_out=True))


def learn(settings: Settings, steps: int, seed: int) -> tuple[TrainingModule, float]:
    """Trains a base for `steps` steps. Returns the module, and the processor seconds without the evaluations."""
    preprocessor, text = data()
    config = TrainingConfig(
        **{
            "steps": steps,
            "warmup_steps": min(50, steps // 4),
            "window": WINDOW,
            "evaluate_every": steps + 1,
            "evaluation_windows": 1,
            **settings.training,
        }
    )
    with seeded_initialization(seed):
        embedder = Embedder(preprocessor, EmbedderConfig.parse(settings.embedder, "embedder"))
        context = ObjectiveContext(width=embedder.width, preprocessor=preprocessor, noise=TrainingNoise())
        objective = MaskedCharactersConfig.parse(settings.task, "task").build(context)
    module = TrainingModule(embedder, [(objective, 1.0)])
    start = time.process_time()
    train(module, text, config, seed, None, null_report)
    return module, time.process_time() - start


def bits(module: TrainingModule) -> float:
    """Held-out bits per masked character with the mask of all experiments."""
    (objective,), (preprocessor, text) = module.objectives, data()
    assert isinstance(objective, MaskedCharacters)
    measured = MASK.build(ObjectiveContext(width=module.encoder.width, preprocessor=preprocessor))  # type: ignore[arg-type]
    measured.head = objective.head
    held_out = text.held_out.fixed(HELD_OUT_WINDOWS, 1)
    return evaluate(TrainingModule(module.encoder, [(measured, 1.0)]), held_out, TrainingConfig(), 1)[METRIC]


def relative_step(settings: Settings) -> tuple[float, float]:
    """Processor seconds per step of the default and of an experiment: medians of trainings in turns."""
    learn(Settings(), SHORT, 1)  # the first training of a process is slower
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(TURNS):
        seconds[True].append(learn(Settings(), SHORT, 1)[1] / SHORT)
        seconds[False].append(learn(settings, SHORT, 1)[1] / SHORT)
    return statistics.median(seconds[True]), statistics.median(seconds[False])


def run(results: Path, names: Sequence[str], seeds: Sequence[int], seconds: float) -> None:
    """Trains every experiment with every seed, except those that RESULTS has."""
    torch.set_num_threads(1)
    for seed in seeds:
        for name in names:
            settings = EXPERIMENTS[name]
            entries = read(results)
            key = {"experiment": name, "settings": digest(settings._asdict()), "seconds": seconds}
            if any(entry.get("seed") == seed and entry.items() >= key.items() for entry in entries):
                continue
            steps = next((entry["steps"] for entry in entries if entry.items() >= key.items()), None)
            if steps is None:
                steps = _append(results, {**key, **_steps(entries, name, settings, seconds)})["steps"]
            module, spent = learn(settings, steps, seed)
            parameters = sum(parameter.numel() for parameter in module.encoder.parameters())
            characters = steps * TrainingConfig(**settings.training).batch_size * WINDOW
            measured = {"bits": bits(module), "spent": spent, "characters": characters, "parameters": parameters}
            entry = _append(results, {**key, "seed": seed, "steps": steps, **measured})
            text = f"{entry['bits']:.3f} bits, {steps} steps, {spent:.0f} processor seconds"
            print(f"{name}, seed {seed}: {text}", file=sys.stderr, flush=True)


def _steps(entries: Sequence[dict[str, Any]], name: str, settings: Settings, seconds: float) -> dict[str, Any]:
    """The steps of an experiment with the two times per step that they follow from."""
    default_step, step = relative_step(settings)
    known = [entry for entry in entries if entry["experiment"] == DEFAULT and entry["seconds"] == seconds]
    default_steps = known[0]["steps"] if known else max(1, round(seconds / default_step))
    steps = default_steps if name == DEFAULT else max(1, round(default_steps * default_step / step))
    return {"steps": steps, "default_step": default_step, "step": step}


def _append(results: Path, entry: dict[str, Any]) -> dict[str, Any]:
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
    return entry


def read(results: Path) -> list[dict[str, Any]]:
    """The entries of RESULTS."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def report(results: Path, seconds: float) -> list[Row]:
    """One row per experiment."""
    trained: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in read(results):
        if "bits" in entry and entry["seconds"] == seconds:
            trained[entry["experiment"]].append(entry)
    values = {name: [entry["bits"] for entry in entries] for name, entries in trained.items()}
    deviation = pooled_deviation(list(values.values()))
    means = {name: statistics.mean(bits) for name, bits in values.items()}
    rows = []
    for name in (name for name in EXPERIMENTS if name in values):
        entries, facts = trained[name], []
        for reference in (DEFAULT, ALL):
            if name != reference and reference in means:
                difference = means[name] - means[reference]
                in_deviations = f", {difference / deviation:+.1f} sd" if deviation else ""
                facts.append(f"{reference}: {difference:+.3f}{in_deviations}")
        facts.append(f"mean {means[name]:.3f}")
        own = f"sd {statistics.stdev(values[name]):.3f}, " if len(entries) > 1 else ""
        facts.append(f"{own}{len(entries)} seeds" if len(entries) > 1 else "1 seed")
        facts.append(f"{entries[0]['steps']} steps")
        facts.append(f"{format_number(entries[0]['characters'])} characters")
        facts.append(f"{statistics.mean(entry['spent'] for entry in entries):.0f} processor seconds")
        ratio = means[name] / means[DEFAULT] if DEFAULT in means else None
        rows.append(Row(f"recipe/{name}", means[name], "bits/masked character", "; ".join(facts), ratio, "lower"))
    return rows


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation within groups, pooled; 0 if no group has two values.

    >>> round(pooled_deviation([[1.0, 3.0], [5.0, 7.0], [4.0]]), 3)
    1.414
    """
    squares = sum((value - statistics.mean(group)) ** 2 for group in groups for value in group)
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt(squares / freedom) if freedom else 0.0


def main() -> None:
    """Runs the benchmark or prints its table."""
    parser = options(__doc__)
    parser.add_argument("results", type=Path, help="file to append results to")
    parser.add_argument("--seconds", type=float, default=90, help="processor seconds of each training (default: 90)")
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    parser.add_argument("--experiments", default="", help="names of experiments, separated by `;` (default: all)")
    parser.add_argument("--report", action="store_true", help="print the table of what is measured so far")
    args = parser.parse_args()
    names = args.experiments.split(";") if args.experiments else list(EXPERIMENTS)
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        parser.error(f"--experiments: {unknown[0]!r} not found; use {'; '.join(EXPERIMENTS)}")
    if not args.report:
        run(args.results, names, args.seeds, args.seconds)
    show(f"Recipes after {args.seconds:g} processor seconds", report(args.results, args.seconds), args.json)


if __name__ == "__main__":
    main()
