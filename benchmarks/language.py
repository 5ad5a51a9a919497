"""Compares the bits per character of unseen text with xz, PPMd and n-gram counts, after minutes of training.

    python benchmarks/language.py [--corpus ptb|tinyshakespeare] [--peers-only] [--json]

A causal base is trained on `next_characters` with the training loop of the library: new weights, one thread, a fixed
seed and number of steps. Then every character of the test text is scored once (`LanguageModel.bits`). Characters
outside the vocabulary are scored by their bytes, so the sum is a code length. On tinyshakespeare, typing noise on the
input delays overfitting. The weights of the best evaluation on the validation text are kept.

The texts are in ../shared/data; missing ones are skipped:

- `ptb`: Mikolov's three files, counted as in published figures: without the space at both ends of a line; spaces
  between words and line breaks count as characters.
- `tinyshakespeare`: 90 % for training, 5 % for validation, 5 % for testing, in this order.

The rows of a corpus:

- `xz`: the peer is xz (preset 9 | extreme) on training and test text minus xz on the training text alone.
- `xz-train`: the peer is xz on the training text alone.
- `ppmd`: the peer is PPMd (pyppmd, variant H) on training and test text minus PPMd on the training text alone, with the
  order and memory that are best on the validation text.
- `ngrams`: the peer is Witten-Bell interpolated counts of the training text, with the n that is best on the validation
  text.
- `train`: processor seconds of the training.

With `--peers-only`, nothing is trained: the rows `peer xz`, `peer ppmd` and so on are the peers' own figures.

KenLM is not a peer: its Python package only queries models. `lmplz`, which trains them, must be built with CMake and
Boost.
"""

import lzma
import sys
import tempfile
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rows import Row, exit_without_peer, options, show

from cclm_core.applications.language_model import LanguageModel
from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Record
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.next_characters import NextCharactersConfig
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import format_number, null_report
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import open_data, train
from cclm_core.training.module import TrainingModule

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
SEED = 1
MAX_NGRAM = 8  # characters
PPMD_ORDERS, PPMD_MEGABYTES = (4, 5, 6, 7, 8, 10, 12, 16), (16, 256)
UNIT = "bits/character"
PTB_FILES = ("train", "valid", "test")


class Texts(NamedTuple):
    """The texts for training, validation and testing."""

    train: str
    validation: str
    test: str


class Plan(NamedTuple):
    """Settings of a training; `noise` is the rate of typing noise on the input."""

    embedder: EmbedderConfig
    training: TrainingConfig
    noise: float


def plan(steps: int, buckets: int, noise: float = 0.0, **training: Any) -> Plan:
    """Returns the plan of an hourglass over n-grams of up to five characters.

    Args:
        steps: training steps.
        buckets: rows of each n-gram table.
        noise: rate of typing noise on the input.
        training: other keys of `TrainingConfig`.
    """
    embedding = EmbeddingConfig(width=64, ngram_sizes=(2, 3, 4, 5), ngram_buckets=buckets)
    encoder = HourglassConfig(num_layers=3, causal=True)
    defaults = {"batch_size": 16, "learning_rate": 4e-3, "warmup_steps": 100, "keep": "best"}
    intervals = {"evaluate_every": max(1, steps // 7), "checkpoint_every": steps}
    config = TrainingConfig(steps=steps, **(defaults | intervals | training))
    return Plan(EmbedderConfig(embedding=embedding, encoder=encoder), config, noise)


PLANS = {"ptb": plan(3300, 65536), "tinyshakespeare": plan(1500, 16384, noise=0.1, weight_decay=0.5)}


def ptb(folder: Path) -> Texts:
    """Reads Mikolov's files without the spaces around each line."""
    lines = (path.read_text(encoding="utf-8").splitlines() for path in (folder / f"ptb.{n}.txt" for n in PTB_FILES))
    return Texts(*("".join(f"{line.strip()}\n" for line in split) for split in lines))


def tinyshakespeare(folder: Path) -> Texts:
    """Splits the text into 90, 5 and 5 % of its characters, in order."""
    text = (folder / "input.txt").read_text(encoding="utf-8")
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return Texts(text[:first], text[first:second], text[second:])


READERS = {"ptb": ptb, "tinyshakespeare": tinyshakespeare}


def xz_bits(text: str) -> int:
    """Returns the size of a text after compression by xz, in bits."""
    return 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def ppmd_bits(texts: Texts) -> tuple[float, int, int]:
    """Scores the test text with PPMd that has read the training text.

    Returns:
        Bits per character, and the order and the memory in MB that are best on the validation text.
    """
    try:
        import pyppmd
    except ImportError as error:
        exit_without_peer(error)

    @cache
    def size(text: str, order: int, megabytes: int) -> int:
        """Size after compression, in bits."""
        encoder = pyppmd.Ppmd7Encoder(order, megabytes << 20)
        return 8 * len(encoder.encode(text.encode()) + encoder.flush())

    def bits(text: str, order: int, megabytes: int) -> float:
        """Bits per character of a text after the training text."""
        return (size(texts.train + text, order, megabytes) - size(texts.train, order, megabytes)) / len(text)

    settings = product(PPMD_ORDERS, PPMD_MEGABYTES)
    order, megabytes = min(settings, key=lambda setting: bits(texts.validation, *setting))
    return bits(texts.test, order, megabytes), order, megabytes


def ngram_bits(texts: Texts) -> tuple[float, int]:
    """Scores the test text with n-gram counts of the training text; returns bits per character and n.

    With c(h) the count of a context h and t(h) the number of distinct characters after it:
    p_n(x | h) = (c(hx) + t(h) p_{n-1}(x | h')) / (c(h) + t(h)), where h' is h without its first character.

    Source: Witten and Bell 1991, "The zero-frequency problem", method C.
    """
    alphabet = {character: number for number, character in enumerate(sorted(set(texts.train)), start=1)}
    train, *held_out = (np.array([alphabet.get(character, 0) for character in text]) for text in texts)
    probabilities = [np.full(len(ids), 1 / 0x110000) for ids in held_out]
    bits = []
    for length in range(1, MAX_NGRAM + 1):
        grams, counts = np.unique(_codes(train, length), return_counts=True)
        contexts, begins = np.unique(grams >> _BITS, return_index=True)
        totals, kinds = np.add.reduceat(counts, begins), np.diff(np.append(begins, len(grams)))
        for number, ids in enumerate(held_out):
            queries = _codes(np.pad(ids, (length - 1, 0), constant_values=alphabet["\n"]), length)
            count, total, kind = (
                _look_up(keys, values, codes)
                for keys, values, codes in (
                    (grams, counts, queries),
                    (contexts, totals, queries >> _BITS),
                    (contexts, kinds, queries >> _BITS),
                )
            )
            mixed = (count + kind * probabilities[number]) / np.maximum(total + kind, 1)
            probabilities[number] = np.where(total > 0, mixed, probabilities[number])
        bits.append([float(-np.log2(values).mean()) for values in probabilities])
    best = int(np.argmin([validation for validation, _ in bits]))
    return bits[best][1], best + 1


_BITS = np.uint64(7)  # per character of a code


def _codes(ids: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.uint64]:
    """Returns each sequence of `length` adjacent ids as one number."""
    codes = np.zeros(len(ids) - length + 1, np.uint64)
    for offset in range(length):
        codes = (codes << _BITS) | ids[offset : len(codes) + offset].astype(np.uint64)
    return codes


def _look_up(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int64], queries: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Returns the values of the queries in a table with sorted keys; 0 for unknown queries."""
    indices = np.searchsorted(keys, queries).clip(max=len(keys) - 1)
    return np.where(keys[indices] == queries, values[indices], 0)


def train_model(texts: Texts, plan: Plan, folder: Path) -> tuple[LanguageModel, dict[str, float]]:
    """Trains a model; returns it with the metrics of its training."""
    preprocessor = Preprocessor().fit([texts.train])
    with EncodedWriter(folder, preprocessor, []) as writer:
        for _ in writer.write(Record(split, text, split=split) for split, text in texts._asdict().items()):
            pass
    corpus = EncodedCorpus.open(folder)
    with seeded_initialization(SEED):
        base = Embedder(preprocessor, plan.embedder)
        noise = TrainingNoise(rate=plan.noise)
        context = ObjectiveContext(width=base.width, preprocessor=preprocessor, noise=noise)
        objective = NextCharactersConfig().build(context)
    data = open_data(corpus, plan.training)
    checkpoints, start = Checkpoints(folder / "checkpoints", "benchmark"), time.process_time()
    curve = train(TrainingModule(base, [(objective, 1.0)]), data, plan.training, SEED, checkpoints, null_report)
    seconds = time.process_time() - start
    model = LanguageModel.of(base, objective, preprocessor, plan.training.window)
    return model, curve[-1] | {"seconds": seconds}


def peers(texts: Texts) -> dict[str, tuple[str, float]]:
    """Measures the peers; returns name → description, and bits per character."""
    train_bits = xz_bits(texts.train)
    ppmd, order, megabytes = ppmd_bits(texts)
    ngrams, length = ngram_bits(texts)
    return {
        "xz": (
            "xz that has read the training text",
            (xz_bits(texts.train + texts.test) - train_bits) / len(texts.test),
        ),
        "xz-train": ("xz of the training text", train_bits / len(texts.train)),
        "ppmd": (f"PPMd that has read the training text, order {order}, {megabytes} MB", ppmd),
        "ngrams": (f"counts of up to {length} characters", ngrams),
    }


def peer_rows(name: str) -> list[Row]:
    """Measures only the peers on a corpus."""
    figures = peers(READERS[name](DATA / name))
    return [Row(f"{name}/peer {key}", bits, UNIT, peer, better="lower") for key, (peer, bits) in figures.items()]


def rows(name: str) -> list[Row]:
    """Trains and measures on one corpus."""
    texts, plan = READERS[name](DATA / name), PLANS[name]
    figures = peers(texts)
    with tempfile.TemporaryDirectory() as folder:
        model, metrics = train_model(texts, plan, Path(folder))
        bits = model.bits_per_character([texts.test])
    rows = [
        Row(f"{name}/{key}", bits, UNIT, f"{peer}: {value:.3f} {UNIT}", bits / value, "lower")
        for key, (peer, value) in figures.items()
    ]
    num_read = plan.training.steps * plan.training.batch_size * plan.training.window
    facts = (
        f"one thread, seed {SEED}, {plan.training.steps} steps; {format_number(num_read)} characters read of "
        f"{format_number(len(texts.train))}; validation {metrics['held_out_bits_per_character']:.3f} {UNIT}, "
        f"best at step {metrics['step']:.0f}"
    )
    return [*rows, Row(f"{name}/train", metrics["seconds"], "processor seconds", facts, better="lower")]


def main() -> None:
    """Runs the benchmark on each corpus that exists, and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--corpus", choices=list(PLANS), help="run only this corpus (default: all)")
    parser.add_argument("--peers-only", action="store_true", help="measure the peers, train nothing")
    args = parser.parse_args()
    table: list[Row] = []
    for name in [args.corpus] if args.corpus else PLANS:
        if (DATA / name).is_dir():
            table += peer_rows(name) if args.peers_only else rows(name)
        else:
            print(f"skipped {name}: {(DATA / name).resolve()} not found. Put the texts there.", file=sys.stderr)
    show("Bits per character of unseen text", table, args.json)


if __name__ == "__main__":
    main()
