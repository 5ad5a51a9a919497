"""Stages of a toy pipeline that publish real artifacts within milliseconds.

python -m toy_stages stage make --out DIR
python -m toy_stages stage train NAME --corpus DIR [--checkpoints DIR] --out DIR
python -m toy_stages stage compose NAME --parts DIR --out DIR
python -m toy_stages stage evaluate NAME --composition DIR --corpus DIR --out DIR --metrics FILE
python -m toy_stages stage label NAME --out DIR
python -m toy_stages stage finetune NAME --labeled DIR --compositions DIR --out DIR
python -m toy_stages stage test NAME --task DIR --labeled DIR --out DIR --metrics FILE
python -m toy_stages stage fuse NAME --tasks DIR --labeled DIR --out DIR
python -m toy_stages stage report --out DIR
python -m toy_stages stage measure NAME --ensemble DIR --tasks DIR --labeled DIR --out DIR --metrics FILE
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from cclm_core.report import ANSWER, FACTS_PLACE, FILE
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json
from cclm_core.runtime.files import copy_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+")
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--composition", type=Path)
    parser.add_argument("--compositions", type=Path)
    parser.add_argument("--labeled", type=Path)
    parser.add_argument("--task", type=Path)
    parser.add_argument("--tasks", type=Path)
    parser.add_argument("--ensemble", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    kind, name = arguments.words[1], arguments.words[-1]
    params = yaml.safe_load(Path("params.yaml").read_text())
    if kind == "make":
        publish(arguments.out, "corpus", {"records": params["records"]}, {"records": params["records"]})
    elif kind == "train":
        train(name, params["components"][name], arguments)
    elif kind == "compose":
        parts = {part: verify(arguments.parts / part, "component") for part in params["compositions"][name]["parts"]}
        card = {"parts": list(parts.values())}
        publish(arguments.out, "composition", {"name": name, "parts": parts}, {"parts": len(parts)}, card=card)
    elif kind == "label":
        publish(arguments.out, "labeled", {"name": name, **params["labeled"][name]}, {"texts": 200})
    elif kind == "finetune":
        finetune(name, params["tasks"][name], arguments)
    elif kind == "test":
        config = params["tasks"][name]
        digests = {"task": verify(arguments.task, "task")}
        digests["labeled"] = verify(arguments.labeled / config["data"], "labeled")
        write_results(arguments.out, config["quality"], digests)
        copy_file(arguments.out / "metrics.json", arguments.metrics)
    elif kind == "report":
        with publishing(arguments.out, "report") as folder:
            (folder / FILE).write_text(f"<html><body>{FACTS_PLACE}</body></html>")
            (folder / "both.html").write_text("the page of both")
            write_json(folder / ANSWER, {"lines": ["both is the best."], "next": []})
    elif kind in ("fuse", "measure"):
        fuse(kind, name, params, arguments)
    else:
        quality = params["quality"]
        publish(arguments.out, "evaluation", {}, {"f1": quality, "nested": {"bits": 1 - quality}})
        copy_file(arguments.out / "metrics.json", arguments.metrics)


def train(name: str, config: dict[str, float], arguments: argparse.Namespace) -> None:
    if config.get("fail"):
        print(f"error: the toy component {name} failed on purpose", file=sys.stderr)
        sys.exit(int(config["fail"]))
    crash = Path(f".cclm/crash-{name}")
    if crash.exists():
        crash.unlink()
        os.abort()
    content: dict[str, object] = {"name": name, "width": config["width"]}
    if "steps" in config:
        content["learned"] = train_with_checkpoints(name, config, arguments.checkpoints / "toy.json")
    else:
        for step in range(1, 6):
            report(step, 5, {"loss": 1 / step})
            time.sleep(config["seconds"] / 5)
    publish(arguments.out, "component", content, {"width": config["width"]}, int(config.get("bytes", 0)))


def finetune(name: str, config: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Writes each run to `.cclm/finetuned-NAME`."""
    with Path(f".cclm/finetuned-{name}").open("a") as journal:
        journal.write("x")
    card = {"stage": "finetune", "data": verify(arguments.labeled / config["data"], "labeled")}
    if composition := config.get("composition"):
        card["base"] = verify(arguments.compositions / composition, "composition")
    report(1, 1, {"loss": 0.5})
    publish(arguments.out, "task", {"name": name, "width": config["quality"], **card}, {"loss": 0.5}, card=card)


def fuse(kind: str, name: str, params: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Fuses or measures an ensemble. Writes each run to `.cclm/KIND-NAME`."""
    with Path(f".cclm/{kind}-{name}").open("a") as journal:
        journal.write("x")
    parts = params["ensembles"][name]["parts"]
    (data,) = {params["tasks"][part]["data"] for part in parts}
    digests = [verify(arguments.tasks / part, "task") for part in parts]
    labeled = verify(arguments.labeled / data, "labeled")
    if kind == "fuse":
        card = {"stage": "fuse", "data": labeled, "parts": digests, "names": parts}
        publish(arguments.out, "task", {"name": name, **card}, {"parts": len(parts)}, card=card)
        return
    quality = max(params["tasks"][part]["quality"] for part in parts)
    own: dict[str, Any] = {"task": verify(arguments.ensemble, "task"), "labeled": labeled, "parts": digests}
    write_results(arguments.out, quality, own)
    copy_file(arguments.out / "metrics.json", arguments.metrics)


def write_results(
    out: Path, quality: float, digests: dict[str, Any], noisy: float | None = None, **changes: Any
) -> None:
    """Publishes results of a task: 200 texts, of which the share `quality` is right, and `noisy` of the noised ones.

    Args:
        changes: `texts` (a digest), `ids` (prefix), `sets`, `slices` (rows), `statistic` (the first one), `gain` to the
            best part of an ensemble (value, low, high).
    """
    sets = {"clean": quality, "noise_0.1": quality if noisy is None else noisy}
    sets = {name: share for name, share in sets.items() if name in changes.get("sets", sets)}
    outcomes = [
        {"id": f"{changes.get('ids', '')}{index}", "set": name, "metric": "accuracy", "statistics": [right, 1.0]}
        for name, share in sets.items()
        for index in range(200)
        for right in [float(index < round(200 * share))]
    ]
    outcomes[0]["statistics"] = [changes.get("statistic", outcomes[0]["statistics"][0]), 1.0]
    baselines = [{"name": "ngrams", "value": 0.5}]
    metrics = {
        "accuracy" if name == "clean" else f"accuracy_{name}": {
            "value": share,
            "better": "higher",
            "interval": [share - 0.05, share + 0.05],
            "documents": 200,
            "baselines": baselines,
            "headline": True,
        }
        for name, share in sets.items()
    }
    if "gain" in changes:
        value, low, high = changes["gain"]
        metrics["gain/accuracy"] = {"value": value, "better": "higher", "interval": [low, high], "headline": False}
        metrics["worse_than_best_part"] = {"value": int(high < 0), "better": "lower", "headline": False}
    slices = changes.get("slices", [("label", "card", 120, quality), ("label", "refund", 80, quality)])
    lines = ["slice,value,texts,metric,score,low,high", *(f"{a},{b},{c},accuracy,{d},," for a, b, c, d in slices)]
    with publishing(out, "evaluation") as folder:
        write_json(folder / "metrics.json", {name: metric["value"] for name, metric in metrics.items()})
        texts = {name: changes.get("texts", "0" * 64) for name in sets}
        write_json(folder / "evaluation.json", {**digests, "seed": 1, "texts": texts, "metrics": metrics})
        (folder / "slices.csv").write_text("\n".join(lines) + "\n")
        schema = pa.schema(
            [pa.field(name, pa.string(), nullable=False) for name in ("id", "set", "metric")]
            + [pa.field("statistics", pa.list_(pa.float64()), nullable=False)]
        )
        pq.write_table(pa.Table.from_pylist(outcomes, schema=schema), folder / "outcomes.parquet")


def train_with_checkpoints(name: str, config: dict[str, float], checkpoint: Path) -> str:
    """Trains from the last checkpoint and returns a digest that depends on all steps.

    Writes each step to `.cclm/steps-NAME`, and pauses at the step in `.cclm/hold-NAME` while that file exists.
    """
    hold, total = Path(f".cclm/hold-{name}"), int(config["steps"])
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    learned, done = "", 0
    if checkpoint.is_file() and (saved := read_json(checkpoint))["width"] == config["width"]:
        learned, done = saved["learned"], saved["step"]
    for step in range(done + 1, total + 1):
        learned = hashlib.sha256(f"{learned} {config['width']} {step}".encode()).hexdigest()
        with Path(f".cclm/steps-{name}").open("a") as journal:
            journal.write(f"{step}\n")
        report(step, total, {"loss": 1 / step})
        while hold.is_file() and hold.read_text() == str(step):
            time.sleep(0.05)
        time.sleep(config["seconds"] / total)
        if step % config["checkpoint_every"] == 0:
            write_json(checkpoint, {"width": config["width"], "step": step, "learned": learned})
    return learned


def report(step: int, total: int, values: dict[str, float]) -> None:
    line = {"time": time.time(), "step": step, "total": total, "values": values}
    with Path(os.environ["CCLM_REPORT"]).open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def publish(
    out: Path, kind: str, content: object, metrics: object, num_bytes: int = 0, card: object | None = None
) -> None:
    """Publishes a folder with several kinds of files.

    If TOY_MODEL is set to a real composition, compositions get its files, and components the files of its parts.
    If TOY_TASK is set to the real model of a task, tasks get its files.
    """
    model, task = (Path(os.environ.get(name, "none")) for name in ("TOY_MODEL", "TOY_TASK"))
    real = {"composition": model, "component": model / "parts" / out.name, "task": task}.get(kind)
    with publishing(out, kind) as folder:
        if real and real.is_dir():
            shutil.copytree(real, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        write_json(folder / "content.json", content)
        write_json(folder / "metrics.json", metrics)
        (folder / "curve.csv").write_text("x,y\n1,2\n")
        if card:
            write_json(folder / "card.json", card)
        if num_bytes:
            (folder / "weights").write_bytes(bytes(num_bytes))


if __name__ == "__main__":
    main()
