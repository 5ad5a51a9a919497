"""Compares masking with transformers, the supply of batches with the demand of training, and padding.

    python benchmarks/batching.py [--json]

Needs data/corpus (`cclm run --target ingest`) and the extra `bench`. All rows are medians of interleaved repeats.

- `mask/hf`: speed of masking single characters. The peer is the collator of transformers, which masks single tokens, on
  the same batch of 64 rows of 256 ids.
- `mask/hf, spans`: the same with the masked spans of the default base.
- `batches/training`: speed of the batch source, with noise and masking. The peer is the speed at which training the
  default base consumes batches, on the stated number of threads. Above 1, training never waits.
- `padding/…`: share of padding in a batch. The peer has one document per row.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, exit_without_peer, options, show

from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.masking import choose_positions
from cclm_core.corpus.parallel import prefetch
from cclm_core.corpus.records import Record, read_records
from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.device import autocast
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import MASK, NUM_SPECIAL, Preprocessor
from cclm_core.training.config import BaseConfig
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import build_optimizer
from cclm_core.training.run import TrainingInputs

CHARACTERS = 2_000_000
MAX_SHORT = 256  # characters; shorter paragraphs leave room in a row of the default window
REPEATS = 7
UNIT = "characters/s"
BATCHES = 40  # batches between two training steps


def rows() -> list[Row]:
    """Measures masking, the batch source and padding."""
    num_threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory() as folder:
            records = _records()
            corpus = _encoded(Path(folder) / "all", records)
            short = _encoded(Path(folder) / "short", [record for record in records if len(record.text) < MAX_SHORT])
            return [*_mask(corpus), *(_batches(corpus, threads) for threads in (1, 2)), *_padding(short)]
    finally:
        torch.set_num_threads(num_threads)


def _mask(corpus: EncodedCorpus) -> list[Row]:
    torch.set_num_threads(1)
    task = BaseConfig().objectives[0].task
    ids = Windows(corpus.split("train"), 256).batch(0, 64, 1).ids
    collator = _collator(corpus.preprocessor.num_ids, task.rate)
    inputs, special = torch.from_numpy(ids), torch.from_numpy(ids < NUM_SPECIAL)
    generator = np.random.default_rng(1)

    def mask(mean_span: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks a batch as the objective does; returns masked ids, positions and targets."""
        positions = choose_positions(ids, task.rate, mean_span, generator)
        masked = ids.copy()
        masked.reshape(-1)[positions[generator.random(len(positions), dtype=np.float32) < task.mask_share]] = MASK
        return torch.from_numpy(masked), torch.from_numpy(positions), torch.from_numpy(ids.reshape(-1)[positions])

    calls: dict[str, Callable[[], object]] = {
        "mask/hf": lambda: mask(1.0),
        "mask/hf, spans": lambda: mask(task.mean_span),
        "peer": lambda: collator.torch_mask_tokens(inputs.clone(), special_tokens_mask=special),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            times[name].append(statistics.median(_timed(call) for _ in range(BATCHES)))
    speed = {name: ids.size / statistics.median(seconds) for name, seconds in times.items()}
    peer = speed.pop("peer")
    text = f"collator of transformers: {format_number(peer)} {UNIT}"
    return [Row(name, value, UNIT, text, value / peer, "higher") for name, value in speed.items()]


def _batches(corpus: EncodedCorpus, threads: int) -> Row:
    config = BaseConfig()
    size = config.training.batch_size * config.training.window
    embedder = Embedder(corpus.preprocessor, config.embedder)
    context = TrainingInputs(corpus=corpus, noise=TrainingNoise()).context(embedder.width)
    module = TrainingModule(embedder, [(part.task.build(context), 1.0) for part in config.objectives])
    optimizer = build_optimizer(module, config.training)
    windows = Windows(corpus.split("train"), config.training.window)
    torch.set_num_threads(threads)

    def make(step: int) -> list[Any]:
        """Prepares the examples of a training step."""
        return module.examples(windows.batch(step, config.training.batch_size, 1), True, 1, "training", step)

    def train(examples: list[Any]) -> None:
        """Makes one training step."""
        with autocast(torch.device("cpu"), config.training.precision):
            loss, _ = module(examples)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def deliver(first: int) -> None:
        """Reads `BATCHES` batches from the batch source, from number `first`."""
        with prefetch(make, range(first, first + BATCHES), workers=1) as batches:
            for _ in batches:
                pass

    train(make(0))
    deliver(0)
    times: dict[str, list[float]] = {"train": [], "deliver": []}
    for number in range(REPEATS):
        examples = make(number)
        times["train"].append(_timed(lambda: train(examples)))  # noqa: B023  called at once
        times["deliver"].append(_timed(lambda: deliver(number * BATCHES)) / BATCHES)  # noqa: B023
    speed = {name: size / statistics.median(seconds) for name, seconds in times.items()}
    name = "batches/training" if threads == 1 else f"batches/training, {threads} threads"
    peer = f"training consumes {format_number(speed['train'])} {UNIT}"
    return Row(name, speed["deliver"], UNIT, peer, speed["deliver"] / speed["train"], "higher")


def _padding(corpus: EncodedCorpus) -> list[Row]:
    """Measures padding for all short documents, and for every second one, so that no two are adjacent."""
    training = BaseConfig().training
    rows = []
    for name, variants in (("short paragraphs", None), ("short paragraphs of one variant in two", ("even",))):
        windows = Windows(corpus.split("train"), training.window, variants)
        batches = [windows.batch(number, training.batch_size, 1) for number in range(REPEATS)]
        share = 1 - sum(int(batch.lengths.sum()) for batch in batches) / sum(batch.ids.size for batch in batches)
        documents = corpus.split("train").documents
        selected = documents if variants is None else documents[documents["variant"].isin(variants)]
        alone = 1 - float((selected["length"] + 1).clip(upper=training.window).mean()) / training.window
        peer = f"one document per row: {100 * alone:.3g} %; limit 5 %"
        rows.append(Row(f"padding/{name}", 100 * share, "%", peer, share / alone, "lower"))
    return rows


def _records() -> list[Record]:
    """Returns the first training records of the ingested corpus."""
    folder = Path("data/corpus")
    if not folder.is_dir():
        sys.exit("data/corpus not found. Run `cclm run --target ingest` first.")
    records, size = [], 0
    for record in read_records(folder, "train"):
        records.append(record)
        size += len(record.text)
        if size >= CHARACTERS:
            break
    return records


def _encoded(folder: Path, records: list[Record]) -> EncodedCorpus:
    """Encodes the records, alternately as the variants `even` and `odd`."""
    folder.mkdir()
    names = ("even", "odd")
    records = [dataclasses.replace(record, variant=names[index % 2]) for index, record in enumerate(records)]
    preprocessor = Preprocessor().fit([record.text for record in records])
    labels = {entity.label for record in records for entity in record.entities}
    with EncodedWriter(folder, preprocessor, labels) as writer:
        for _ in writer.write(records):
            pass
    return EncodedCorpus.open(folder)


def _collator(num_ids: int, rate: float) -> Any:
    try:
        from tokenizers import Tokenizer, models
        from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast
    except ImportError as error:
        exit_without_peer(error)
    words = {"[PAD]": 0, "[MASK]": 1} | {f"c{number}": number for number in range(2, num_ids)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "[PAD]")), pad_token="[PAD]", mask_token="[MASK]"
    )
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show("Masks, batches and padding", rows(), args.json)
