"""Compares two components over one shared embedder with the same two components, each with an embedder of its own.

    python benchmarks/shared_embedder.py [--steps 60] [--seeds 1,2,3] [--json]

Both sides learn masked characters and masked words of the same novels, with the same networks: an embedder with one
encoder, and an encoder per component. Only the configuration differs:

- `shared`: the components are trained jointly with the base (`base.objectives`), with one optimizer step for both.
- `shared pass`: the same, with `base.shared_pass`.
- `independent`: each component has an `embedding` of its own, and the encoder of the base is a part of its encoder.

Each objective sees the same number of windows on all sides. Each side is a process of its own with one thread. Memory
is the growth of its peak resident set in the first training. Speeds are characters per processor second: of all
objectives in training, and of texts that the composition embeds. A value is the median over the seeds.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from encoding import paragraphs
from rows import Row, options, seed_list, show

from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedWriter
from cclm_core.corpus.records import Record
from cclm_core.runtime.artifacts import publishing, read_json
from cclm_core.runtime.reporting import format_number, null_report
from cclm_core.steps.base import base
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from cclm_core.steps.pretrain import pretrain
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import FILE, WordTargets

CHARACTERS, EMBEDDED, HELD_OUT_EVERY = 600_000, 60_000, 20
BATCH, WINDOW = 16, 128
EMBEDDING = {"width": 64, "ngram_buckets": 4096}
ENCODER = {"core_width": 128, "num_layers": 2, "num_heads": 4, "width": 64}
BODY = {"core_width": 64, "num_layers": 1, "num_heads": 4, "width": 64}
TASKS = {"characters": {"objective": "masked_characters"}, "words": {"objective": "masked_words"}}
MEASURES = {"characters": "held_out_bits_per_masked_character", "words": "held_out_bits_per_masked_word"}
INDEPENDENT = "independent"
SIDES = ("shared", "shared pass", INDEPENDENT)
FIGURES = {
    "training": ("characters/s", "higher"),
    "inference": ("characters/s", "higher"),
    "memory": ("MiB", "lower"),
    "artifact": ("MiB", "lower"),
    "characters": ("bits per masked character", "lower"),
    "words": ("bits per masked word", "lower"),
}


def encode(folder: Path) -> list[str]:
    """Publishes an encoded corpus of novels with word targets; returns texts to embed, which are not in it."""
    _, texts = paragraphs()
    size, records = 0, list[Record]()
    for number, text in enumerate(texts):
        split = "validation" if number % HELD_OUT_EVERY == 0 else "train"
        records.append(Record(str(number), text.strip(), None, "g", None, None, (), split))
        size += len(text)
        if size >= CHARACTERS:
            break
    training = [record.text for record in records if record.split == "train"]
    words = TargetsConfig(max_targets=4000)
    preprocessor = Preprocessor(VocabularyConfig(words=words)).fit(training)
    with publishing(folder, "encoded") as output, EncodedWriter(output, preprocessor, []) as writer:
        for _ in writer.write(records):
            pass
        WordTargets.fit(training, words, preprocessor).with_counts(training).save(output / FILE)
    return [text for text in texts[len(records) :] if len(text) < WINDOW * 8][: EMBEDDED // 200]


def parameters(side: str, steps: int, seed: int) -> Params:
    """The configuration of a side."""
    training = {"steps": steps, "batch_size": BATCH, "window": WINDOW, "warmup_steps": steps // 5}
    training |= {"evaluate_every": steps, "evaluation_windows": 64, "checkpoint_every": steps}
    unchanged = {"steps": 0, "warmup_steps": 0}
    if side == INDEPENDENT:
        chain = {"kind": "chain", "parts": [ENCODER, BODY]}
        # A composition needs a base for its vocabulary. No part reads this one.
        smallest = {"kind": "convolution", "num_blocks": 1, "width": 8}
        own = {"embedder": {"embedding": {"width": 8, "ngram_sizes": []}, "encoder": smallest}, "training": unchanged}
        components = {
            name: {"task": task, "embedding": EMBEDDING, "encoder": chain, "training": training}
            for name, task in TASKS.items()
        }
    else:
        objectives = [{"name": name, "task": task, "encoder": BODY} for name, task in TASKS.items()]
        own = {"embedder": {"embedding": EMBEDDING, "encoder": ENCODER}, "objectives": objectives, "training": training}
        if side != "shared":
            own["shared_pass"] = True
        components = {
            name: {"task": task, "encoder": BODY, "joint": True, "training": unchanged} for name, task in TASKS.items()
        }
    return Params(
        {
            "seed": seed,
            "training_noise": {"rate": 0},
            "base": own,
            "components": components,
            "compositions": {"pair": {"parts": list(TASKS)}},
        }
    )


class Clock:
    """Receives the progress of trainings; adds up their steps and processor seconds, without evaluations."""

    def __init__(self) -> None:
        self.steps, self.seconds = 0, 0.0
        self._last = (0, 0.0)

    def __call__(self, step: int, values: Mapping[str, float], total: int) -> None:  # noqa: ARG002
        """See `Report`. The reports of the first and of the last step come after an evaluation."""
        now = time.process_time()
        if 0 < step < total:
            self.steps += step - self._last[0]
            self.seconds += now - self._last[1]
        self._last = (step, now)


def measure(side: str, seeds: list[int], steps: int, encoded: Path, texts: list[str]) -> list[dict[str, float]]:
    """The figures of a side, by name, for each seed."""
    torch.set_num_threads(1)
    figures, before = [], _peak()
    for seed in seeds:
        figures.append(_measure(side, parameters(side, steps, seed), encoded, texts))
        # A peak never falls, so only the first one is that of one training.
        figures[-1]["memory"] = figures[0].get("memory", (_peak() - before) / 2**20)
        print(side, seed, figures[-1], file=sys.stderr, flush=True)
    return figures


def _measure(side: str, params: Params, encoded: Path, texts: list[str]) -> dict[str, float]:
    """Trains, composes and embeds; returns the figures by name, without that of memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock = Clock()
        base(params, encoded, folder / "checkpoints/base", folder / "base", clock)
        for part in TASKS:
            pretrain(params, part, encoded, folder / "base", folder / f"checkpoints/{part}", folder / part, clock)
        objectives = 1 if side == INDEPENDENT else len(TASKS)
        compose(params, "pair", folder / "base", folder, folder / "pair", null_report)
        trained = {task: folder / (task if side == INDEPENDENT else "base") for task in TASKS}
        bits = {task: _measured(read_json(path / "metrics.json"), MEASURES[task]) for task, path in trained.items()}
        model = load_composition(folder / "pair")
        start = time.process_time()
        model.embed(texts)
        return {
            "training": objectives * clock.steps * BATCH * WINDOW / clock.seconds,
            "inference": sum(map(len, texts)) / (time.process_time() - start),
            "artifact": sum(path.stat().st_size for path in (folder / "pair").rglob("*.safetensors")) / 2**20,
            **bits,
        }


def _measured(metrics: dict[str, Any], name: str) -> float:
    """A metric of a training, also of an objective with a name."""
    return float(next(value for key, value in metrics.items() if key.endswith(name.removeprefix("held_out_"))))


def _peak() -> int:
    """Peak resident set of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rows(seeds: list[int], steps: int) -> list[Row]:
    """Measures all sides, one process after the other."""
    with tempfile.TemporaryDirectory() as name:
        encoded, figures = Path(name) / "encoded", {}
        texts = encode(encoded)
        for side in SIDES:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                figures[side] = process.submit(measure, side, seeds, steps, encoded, texts).result()
    table = []
    for figure, (unit, better) in FIGURES.items():
        values = {side: statistics.median(result[figure] for result in figures[side]) for side in SIDES}
        peer = values[INDEPENDENT]
        for side in SIDES:
            ratio = None if side == INDEPENDENT else values[side] / peer
            described = "" if ratio is None else f"{INDEPENDENT}: {format_number(peer)} {unit}"
            table.append(Row(f"{figure}/{side}", values[side], unit, described, ratio, better))  # type: ignore[arg-type]
    return table


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each training")
    parser.add_argument("--seeds", type=seed_list, default=[1, 2, 3], help="seeds, separated by commas")
    args = parser.parse_args()
    show("A shared embedder and independent ones", rows(args.seeds, args.steps), args.json)
