"""Bits per character of unseen text after minutes of training, against xz and counting.

    python benchmarks/language.py [--corpus ptb|tinyshakespeare] [--json]

A causal base is trained on `next_characters` with the training loop of the library, from new weights, on one thread,
with a fixed seed and number of steps; the row `train` shows the processor seconds. Then every character of the whole
test text is scored once (`LanguageModel.bits`); characters outside the vocabulary are scored by their bytes, so the sum
is a code length. A model soon memorizes a million characters: on tinyshakespeare, typing noise on the input prevents
this, and the weights of the best evaluation on validation text are kept. The texts are in ../shared/data; a missing one
is skipped by name:

- `ptb`: Mikolov's three files, counted as in published figures: without the space at the beginning and end of each
  line; spaces between words and line breaks count as characters.
- `tinyshakespeare`: the first 90 % to train on, the next 5 % for validation, the last 5 % to test.

The peers: `xz` (preset 9 | extreme) on training and test text together minus the training text alone, so that it has
seen the training text too; `xz-train`, xz on the training text alone; `ngrams`, Witten-Bell interpolated counts of the
training text, of the length that is best on the validation text.
"""

import lzma
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rows import Row, show

from cclm_core.applications.language_model import LanguageModel
from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Record
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.next_characters import NextCharactersConfig
from cclm_core.runtime.random import seeded_initialisation
from cclm_core.runtime.reporting import silent
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import open_data, train
from cclm_core.training.module import TrainingModule

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
SEED = 1
LONGEST = 8  # characters of the longest n-grams that are counted
UNIT = "bits/character"
FILES = ("train", "valid", "test")  # of Mikolov


class Texts(NamedTuple):
    """The texts for training, for choosing settings, and for measuring."""

    train: str
    validation: str
    test: str


class Plan(NamedTuple):
    """How a model is trained on a corpus; `noise` is the rate of typing noise on its input."""

    embedder: EmbedderConfig
    training: TrainingConfig
    noise: float


def plan(steps: int, buckets: int, noise: float = 0.0, **training: Any) -> Plan:
    """An hourglass over n-grams of up to five characters, trained for `steps` steps."""
    embedding = EmbeddingConfig(width=64, ngram_sizes=(2, 3, 4, 5), ngram_buckets=buckets)
    encoder = HourglassConfig(num_layers=3, causal=True)
    common = {"batch_size": 16, "learning_rate": 4e-3, "warmup_steps": 100, "keep": "best"}
    every = {"evaluate_every": max(1, steps // 7), "checkpoint_every": steps}
    config = TrainingConfig(steps=steps, **(common | every | training))
    return Plan(EmbedderConfig(embedding=embedding, encoder=encoder), config, noise)


PLANS = {"ptb": plan(3300, 65536), "tinyshakespeare": plan(1500, 16384, noise=0.1, weight_decay=0.5)}


def ptb(folder: Path) -> Texts:
    """Mikolov's files without the spaces around each line."""
    lines = (path.read_text(encoding="utf-8").splitlines() for path in (folder / f"ptb.{n}.txt" for n in FILES))
    return Texts(*("".join(f"{line.strip()}\n" for line in some) for some in lines))


def tinyshakespeare(folder: Path) -> Texts:
    """90, 5 and 5 % of the characters, in order."""
    text = (folder / "input.txt").read_text(encoding="utf-8")
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return Texts(text[:first], text[first:second], text[second:])


READERS = {"ptb": ptb, "tinyshakespeare": tinyshakespeare}


def xz_bits(text: str) -> int:
    """The size of a text compressed by xz, in bits."""
    return 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def ngram_bits(texts: Texts) -> tuple[float, int]:
    """Bits per character of the test text by counts of n-grams of the training text, and their length.

    Each length is interpolated with the next shorter one by how many different characters follow a context.

    Source: Witten and Bell 1991, "The zero-frequency problem", method C.
    """
    alphabet = {character: number for number, character in enumerate(sorted(set(texts.train)), start=1)}
    train, *others = (np.array([alphabet.get(character, 0) for character in text]) for text in texts)
    chances = [np.full(len(other), 1 / 0x110000) for other in others]
    found = []
    for length in range(1, LONGEST + 1):
        grams, counts = np.unique(_codes(train, length), return_counts=True)
        contexts, begins = np.unique(grams >> _BITS, return_index=True)
        totals, kinds = np.add.reduceat(counts, begins), np.diff(np.append(begins, len(grams)))
        for number, other in enumerate(others):
            wanted = _codes(np.pad(other, (length - 1, 0), constant_values=alphabet["\n"]), length)
            count, total, kind = (
                _look_up(keys, values, codes)
                for keys, values, codes in (
                    (grams, counts, wanted),
                    (contexts, totals, wanted >> _BITS),
                    (contexts, kinds, wanted >> _BITS),
                )
            )
            mixed = (count + kind * chances[number]) / np.maximum(total + kind, 1)
            chances[number] = np.where(total > 0, mixed, chances[number])
        found.append([float(-np.log2(some).mean()) for some in chances])
    best = int(np.argmin([validation for validation, _ in found]))
    return found[best][1], best + 1


_BITS = np.uint64(7)  # of a character in a code


def _codes(ids: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.uint64]:
    """Every run of `length` ids as one number."""
    codes = np.zeros(len(ids) - length + 1, np.uint64)
    for place in range(length):
        codes = (codes << _BITS) | ids[place : len(codes) + place].astype(np.uint64)
    return codes


def _look_up(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int64], wanted: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def learnt(texts: Texts, plan: Plan, folder: Path) -> tuple[LanguageModel, dict[str, float]]:
    """A model trained by `plan`, and the figures of its training."""
    preprocessor = Preprocessor().fit([texts.train])
    with EncodedWriter(folder, preprocessor, []) as writer:
        for _ in writer.write(Record(split, text, split=split) for split, text in texts._asdict().items()):
            pass
    corpus = EncodedCorpus.open(folder)
    with seeded_initialisation(SEED):
        base = Embedder(preprocessor, plan.embedder)
        noise = TrainingNoise(rate=plan.noise)
        context = ObjectiveContext(width=base.width, preprocessor=preprocessor, noise=noise)
        objective = NextCharactersConfig().build(context)
    data = open_data(corpus, plan.training)
    checkpoints, began = Checkpoints(folder / "checkpoints", "benchmark"), time.process_time()
    curve = train(TrainingModule(base, [(objective, 1.0)]), data, plan.training, SEED, checkpoints, silent)
    seconds = time.process_time() - began
    model = LanguageModel.of(base, objective, preprocessor, plan.training.window)
    return model, curve[-1] | {"seconds": seconds}


def rows(name: str) -> list[Row]:
    """The figures of one corpus."""
    texts, plan = READERS[name](DATA / name), PLANS[name]
    with tempfile.TemporaryDirectory() as folder:
        model, facts = learnt(texts, plan, Path(folder))
        bits = model.bits_per_character([texts.test])
    known = xz_bits(texts.train)
    xz = (xz_bits(texts.train + texts.test) - known) / len(texts.test)
    alone = known / len(texts.train)
    ngrams, length = ngram_bits(texts)
    read = plan.training.steps * plan.training.batch_size * plan.training.window
    about = f"{plan.training.steps} steps, {read / 1e6:.1f} M characters read of {len(texts.train) / 1e6:.1f} M"
    best = f"validation {facts['held_out_bits_per_character']:.3f} {UNIT}, best at step {facts['step']:.0f}"
    return [
        Row(
            f"{name}/xz",
            bits,
            UNIT,
            f"xz of {len(texts.test):,} test characters, training text known: {xz:.4g}",
            bits / xz,
        ),
        Row(f"{name}/xz-train", bits, UNIT, f"xz of the training text alone: {alone:.4g}", bits / alone),
        Row(f"{name}/ngrams", bits, UNIT, f"counts of up to {length} characters: {ngrams:.4g}", bits / ngrams),
        Row(f"{name}/train", facts["seconds"], "processor s", f"one thread, seed {SEED}; {about}; {best}"),
    ]


def main() -> None:
    """Shows the corpora that are there; names those that are not."""
    asked = sys.argv[sys.argv.index("--corpus") + 1 :][:1] if "--corpus" in sys.argv else list(PLANS)
    found = []
    for name in asked:
        if (DATA / name).is_dir():
            found += rows(name)
        else:
            print(f"skipped: {name}, since there is no {DATA / name}", file=sys.stderr)
    show("Bits per character of unseen text", found)


if __name__ == "__main__":
    main()
