"""Does memory grow with the corpus? Runs the stages `ingest` and `vocab` on two sizes of real text, and prints their
peak memory, the ratio of the two, and characters per second and core.

    python benchmarks/memory.py [--json] [--megabytes 100 1000] [--format jsonl|text]

Memory is the proportional set size (PSS) of the stage's process and all its workers, summed, read every 50 ms.
"""

import argparse
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
from rows import Row, show

from cclm_core.corpus.parallel import num_workers

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
SAMPLE_SECONDS = 0.05
COMMANDS = {
    "ingest": ["--params", "params.yaml", "--downloads", "downloads", "--out", "corpus"],
    "vocab": ["--params", "params.yaml", "--corpus", "corpus", "--out", "encoded"],
}


def paragraphs() -> list[str]:
    """Paragraphs of technical documentation and of novels."""
    texts = []
    with pa.input_stream(str(DATA / "ms_docs/cpp-docs.jsonl.zst"), compression="zstd") as stream:
        texts += [json.loads(line)["text"] for line in stream.read().splitlines()]
    for novel in sorted(DATA.glob("gutenberg_novels/*.txt")):
        texts.append(novel.read_text(encoding="utf-8"))
    found = (" ".join(part.split()) for text in texts for part in text.replace("\r", "").split("\n\n"))
    return [paragraph for paragraph in found if paragraph]


def new_texts() -> Iterator[str]:
    """Endless text: the first half of one paragraph and the second half of another, so that few are duplicates."""
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in paragraphs()]
    draw = random.Random(1)
    while True:
        yield draw.choice(halves)[0] + draw.choice(halves)[1]


def write_source(path: Path, megabytes: int) -> int:
    """Writes so much text as JSON lines or lines; returns the number of its characters."""
    written = 0
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(new_texts()):
            line = json.dumps({"key": f"r{number}", "text": text}) if path.suffix == ".jsonl" else text
            stream.write(line + "\n")
            written += len(text)
            if written >= megabytes * 10**6:
                return written
    raise AssertionError("the texts never end")


def measure(stage: str, folder: Path) -> tuple[float, float, float]:
    """Runs a stage; returns its peak PSS in MiB, its seconds, and its processor seconds."""
    command = [sys.executable, "-m", "cclm_core.cli.app", "stage", stage, *COMMANDS[stage]]
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = psutil.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    peak, used = 0, {}
    while process.poll() is None:
        total = 0
        for one in [process, *_children(process)]:
            try:
                total += one.memory_full_info().pss
                times = one.cpu_times()
                used[one.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the stage {stage} failed in {folder}")
    return peak / 2**20, time.perf_counter() - begin, sum(used.values())


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


def rows(sizes: list[int], suffix: str, duplicates: str | None) -> list[Row]:
    """Two sizes through both stages."""
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
            seconds = used = peaks[megabytes] = 0.0
            for stage in COMMANDS:
                peak, took, busy = measure(stage, folder)
                table.append(Row(f"{stage}/{megabytes} MB/peak", peak, "MiB PSS"))
                unit = f"M characters/s, {workers} workers"
                table.append(Row(f"{stage}/{megabytes} MB/speed", characters / took / 1e6, unit))
                seconds, used = seconds + took, used + busy
                peaks[megabytes] = max(peaks[megabytes], peak)
            table.append(Row(f"both/{megabytes} MB", characters / used / 1e6, "M characters/s/core"))
            table.append(Row(f"both/{megabytes} MB/cores", used / seconds, "cores busy"))
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        table.append(Row("memory", peaks[last], "MiB PSS", f"{first} MB", peaks[last] / peaks[first]))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--format", choices=["jsonl", "text"], default="jsonl")
    parser.add_argument("--duplicates", choices=["exact", "near"])
    given = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("this benchmark reads real text from shared/data beside the project's folder; there is none.")
    suffix = "txt" if given.format == "text" else "jsonl"
    show("memory", rows(given.megabytes, suffix, given.duplicates))
