"""Measures the peak memory and the speed of the stages `ingest` and `vocab` on two sizes of real text.

    python benchmarks/memory.py [--megabytes 100 1000] [--format jsonl|text] [--duplicates exact|near] [--json]

Needs texts in ../shared/data, and 5 GB in the temporary folder for 1000 MB. The peer of the largest corpus is the
smallest one: a ratio of 1 means that memory does not grow with the corpus.

Memory is the proportional set size (PSS) of the stage's process and its workers, summed, read every 50 ms; shared pages
count once. `CCLM_WORKERS` sets the number of workers.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
from rows import Row, options, show

from cclm_core.corpus.parallel import num_workers
from cclm_core.runtime.reporting import format_number

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
SAMPLE_SECONDS = 0.05
COMMANDS = {
    "ingest": ["--params", "params.yaml", "--downloads", "downloads", "--out", "corpus"],
    "vocab": ["--params", "params.yaml", "--corpus", "corpus", "--out", "encoded"],
}


def paragraphs() -> list[str]:
    """Returns paragraphs of technical documentation and of novels."""
    texts = []
    with pa.input_stream(str(DATA / "ms_docs/cpp-docs.jsonl.zst"), compression="zstd") as stream:
        texts += [json.loads(line)["text"] for line in stream.read().splitlines()]
    for novel in sorted(DATA.glob("gutenberg_novels/*.txt")):
        texts.append(novel.read_text(encoding="utf-8"))
    parts = (" ".join(part.split()) for text in texts for part in text.replace("\r", "").split("\n\n"))
    return [part for part in parts if part]


def new_texts() -> Iterator[str]:
    """Yields texts without end: half of one paragraph and half of another, so that few are duplicates."""
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in paragraphs()]
    draw = random.Random(1)
    while True:
        yield draw.choice(halves)[0] + draw.choice(halves)[1]


def write_source(path: Path, megabytes: int) -> int:
    """Writes text as JSON lines or lines; returns the number of characters.

    Args:
        path: the file; JSON lines if it ends with `.jsonl`.
        megabytes: size of the text, in millions of characters.
    """
    written = 0
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(new_texts()):
            line = json.dumps({"key": f"r{number}", "text": text}) if path.suffix == ".jsonl" else text
            stream.write(line + "\n")
            written += len(text)
            if written >= megabytes * 10**6:
                return written
    raise AssertionError("`new_texts` is endless")


def measure(stage: str, folder: Path) -> tuple[float, float, float]:
    """Runs a stage; returns its peak PSS in MiB, its wall seconds and its processor seconds."""
    command = [sys.executable, "-m", "cclm_core.cli.app", "stage", stage, *COMMANDS[stage]]
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = psutil.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    peak, processor_seconds = 0, {}
    while process.poll() is None:
        total = 0
        for member in [process, *_children(process)]:
            try:
                total += member.memory_full_info().pss
                times = member.cpu_times()
                processor_seconds[member.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the stage {stage} failed with code {process.returncode}. Run it alone: {' '.join(command)}")
    return peak / 2**20, time.perf_counter() - start, sum(processor_seconds.values())


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return children


def rows(sizes: list[int], suffix: str, duplicates: str | None) -> list[Row]:
    """Measures both stages with each size.

    Args:
        sizes: sizes of the corpora, in megabytes.
        suffix: `jsonl` or `txt`.
        duplicates: `exact`, `near` or None, as in params.yaml.
    """
    table, peaks = [], {}
    workers = num_workers()
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            characters = write_source(folder / f"source.{suffix}", megabytes)
            source = {"kind": "files", "paths": [f"source.{suffix}"]}
            if suffix == "jsonl":
                source["columns"] = {"id": "key"}
            ingest = {"source": source, "validation_share": 0.05, "test_share": 0.05, "duplicates": duplicates}
            params = {"seed": 1, "ingest": ingest, "vocabulary": {}}
            (folder / "params.yaml").write_text(json.dumps(params))
            wall = busy = peaks[megabytes] = 0.0
            for stage in COMMANDS:
                peak, stage_wall, stage_busy = measure(stage, folder)
                table.append(Row(f"{stage}/{megabytes} MB/peak", peak, "MiB PSS", better="lower"))
                speed = characters / stage_wall / 1e6
                unit = f"M characters/s, {workers} workers"
                table.append(Row(f"{stage}/{megabytes} MB/speed", speed, unit, better="higher"))
                wall, busy = wall + stage_wall, busy + stage_busy
                peaks[megabytes] = max(peaks[megabytes], peak)
            table.append(Row(f"both/{megabytes} MB", characters / busy / 1e6, "M characters/s/core", better="higher"))
            table.append(Row(f"both/{megabytes} MB/cores", busy / wall, "cores busy"))
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        peer = f"{first} MB: {format_number(peaks[first])} MiB PSS"
        table.append(Row("memory", peaks[last], "MiB PSS", peer, peaks[last] / peaks[first], "lower"))
    return table


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000], help="sizes, smallest first")
    parser.add_argument("--format", choices=["jsonl", "text"], default="jsonl", help="format of the source")
    parser.add_argument("--duplicates", choices=["exact", "near"], help="remove duplicates (default: no)")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"texts not found in {DATA}. Put them there to run this benchmark.")
    suffix = "txt" if args.format == "text" else "jsonl"
    show("Memory and speed of ingest and vocab", rows(args.megabytes, suffix, args.duplicates), args.json)
