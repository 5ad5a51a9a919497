"""Measures `cclm embed` on two sizes of text: peak memory, processor time, and the speed of plain batching.

    python benchmarks/embedding.py [--megabytes 10 100] [--model FOLDER] [--plain-megabytes 4] [--json]

The model is a base of the default size with random weights; its speed does not depend on them. The texts are documents
and sentences of random words: half of them have 20 to 200 characters, the others up to 4,000. Plain batching takes 32
texts at a time in their order, pads them to the longest, cut to a window, and averages: what a loop over a data loader
does. It reads a smaller part, because it is slow. Memory is the resident set size of the process, read every 50 ms.

The peer of the larger file's memory is that of the smaller one: a ratio of 1 means that memory does not grow.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import torch
from rows import Row, options, show

from cclm_core.composition.long_texts import WINDOW
from cclm_core.composition.store import load_base, save
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.device import num_threads
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import Preprocessor

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.05
PLAIN_TEXTS = 32
SETTINGS = {"embedding": {"ngram_sizes": [2, 3, 4, 5]}, "encoder": {"kind": "hourglass", "stride": 8}}


def texts() -> Iterator[str]:
    """Yields texts without end."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(5000)]
    while True:
        length = draw.randint(20, 200) if draw.random() < 0.5 else draw.randint(200, 4000)
        yield " ".join(draw.choices(words, k=max(1, length // 6)))


def write_texts(path: Path, megabytes: float) -> int:
    """Writes one text per line; returns the number of characters."""
    written = 0
    with path.open("w", encoding="utf-8") as stream:
        for text in texts():
            stream.write(text + "\n")
            written += len(text)
            if written >= megabytes * 1e6:
                return written
    raise AssertionError("`texts` is endless")


def measure(model: Path, source: Path, out: Path) -> tuple[float, float]:
    """Runs `cclm embed`; returns its peak memory in MiB and its processor seconds."""
    command = [sys.executable, "-m", "cclm_core.cli.app", "embed", str(model), str(source), "--out", str(out)]
    process = psutil.Popen([*command, "--precision", "float16"], cwd=ROOT)
    peak, seconds = 0, 0.0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            times = process.cpu_times()
            seconds = times.user + times.system
        except psutil.Error:
            break
        time.sleep(SAMPLE_SECONDS)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak / 2**20, seconds


def plain(model: Path, megabytes: float) -> tuple[int, float]:
    """Embeds texts by plain batching on one thread; returns the characters in its windows and processor seconds."""
    encoder = load_base(model).eval()
    number = next(count for count, total in _totals() if total >= megabytes * 1e6)
    start, read = time.process_time(), 0
    with num_threads(1), torch.no_grad():
        source = islice(texts(), number)
        while group := list(islice(source, PLAIN_TEXTS)):
            rows = [encoder.preprocessor.encode(text)[:WINDOW] for text in group]
            ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
            for row, encoded in zip(ids, rows, strict=True):
                row[: len(encoded)] = encoded
            batch = torch.from_numpy(ids)
            mask = (batch != 0)[..., None]
            _ = (encoder(batch) * mask).sum(1) / mask.sum(1)
            read += sum(map(len, rows))
    return read, time.process_time() - start


def _totals() -> Iterator[tuple[int, int]]:
    total = 0
    for count, text in enumerate(texts(), start=1):
        total += len(text)
        yield count, total


def default_model(folder: Path) -> Path:
    """Publishes a base of the size that `cclm init` configures, with random weights."""
    with seeded_initialization(1):
        config = EmbedderConfig.parse(SETTINGS, "embedder")
        save(Embedder(Preprocessor(alphabet="".join(map(chr, range(32, 127)))), config), folder / "base")
    return folder / "base"


def rows(sizes: list[float], model: Path | None, plain_megabytes: float) -> list[Row]:
    """Measures each size, then plain batching."""
    table, peaks = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model or default_model(folder)
        read, seconds = plain(model, plain_megabytes)
        peer = read / seconds
        for megabytes in sizes:
            characters = write_texts(folder / "texts.txt", megabytes)
            peaks[megabytes], busy = measure(model, folder / "texts.txt", folder / "out.parquet")
            speed = characters / busy
            text = f"plain batching of {PLAIN_TEXTS} texts: {format_number(peer)} characters/s"
            table.append(Row(f"embed/{megabytes:g} MB", speed, "characters/s/core", text, speed / peer, "higher"))
            table.append(Row(f"embed/{megabytes:g} MB/processor", busy, "s", better="lower"))
            table.append(Row(f"embed/{megabytes:g} MB/peak", peaks[megabytes], "MiB", better="lower"))
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        text = f"{first:g} MB: {format_number(peaks[first])} MiB"
        table.append(Row("embed/memory", peaks[last], "MiB", text, peaks[last] / peaks[first], "lower"))
    return table


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10, 100], help="sizes, smallest first")
    parser.add_argument("--model", type=Path, help="folder of a model (default: random weights)")
    parser.add_argument("--plain-megabytes", type=float, default=4, help="size of the text for plain batching")
    args = parser.parse_args()
    show("Embedding, one process, one thread", rows(args.megabytes, args.model, args.plain_megabytes), args.json)
