"""The stage `evaluate`: evaluates one frozen composition and writes metrics, tables, plots and examples."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.evaluation.plots import PLOTS
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import read_text_sets
from cclm_core.runtime.artifacts import publishing, rounded, verify, write_json, write_text
from cclm_core.runtime.device import select_device
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def evaluate(
    params: Params,
    name: str,
    composition: Path,
    encoded: Path,
    noise: Path,
    out: Path,
    report: Report,
    metrics: Path | None = None,
    noise_curve: Path | None = None,
) -> None:
    """Evaluates a composition and publishes the results. Tables without rows are not written.

    ```
    metrics.json         values by metric name
    evaluation.json      metrics with direction, interval and baselines; configuration; digests of the inputs;
                         skipped probes with reasons; warnings, such as about few test documents
    noise_curve.csv      rate, then one column per metric and sample size             plots/noise_curve.png
    entities.csv         set, label, gold, predicted, precision, recall, f1
    confusion.csv        id, true, predicted; one row per document                    plots/confusion.png
    contribution.csv     component, metric, whole, without, contribution, low, high   plots/contribution.png
    predictions.jsonl    some documents of the first and the last test set
    ```

    In the CSV files, a text that a spreadsheet would run as a formula begins with an apostrophe.

    Args:
        params: the parameters; reads the section `evaluation`.
        name: the composition, a key of `compositions`.
        composition: folder of the composition.
        encoded: folder of the encoded corpus.
        noise: folder of the noise sets.
        out: folder to publish the results at.
        report: receives progress, and finally the speed.
        metrics: where to copy metrics.json for DVC, if anywhere.
        noise_curve: where to write a CSV with the columns rate, metric and value for DVC's plots, if anywhere.

    Raises:
        CclmError: an input is missing or damaged, or the vocabularies differ. `out` is not changed.
    """
    config = params.section(EvaluationConfig)
    seed = params.seed
    inputs = {"composition": composition, "encoded": encoded, "noise": noise}
    digests = {kind: verify(folder, kind) for kind, folder in inputs.items()}
    corpus, composed = EncodedCorpus.open(encoded), load_composition(composition).to(select_device())
    expected, actual = corpus.preprocessor.digest[:12], composed.preprocessor.digest[:12]
    if actual != expected:
        raise CompositionError(
            f"vocabularies differ: {actual} in {composition}, {expected} in {encoded}. Train the composition again: "
            f"`cclm run --target compose@{name}`."
        )
    evaluation = evaluate_composition(composed, corpus, read_text_sets(noise), config, seed, report)
    card = {"stage": "evaluate", "name": name, "seed": seed, **digests, "configuration": config.canonical()}
    with publishing(out, "evaluation") as folder:
        write_evaluation(folder, name, evaluation, card)
    copy_file(out / "metrics.json", metrics)
    for warning in evaluation.warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)
    if noise_curve is not None:
        _write_noise_curve(noise_curve, evaluation)


def _write_noise_curve(path: Path, evaluation: Evaluation) -> None:
    """Writes one row per noise rate and metric, so that dvc.yaml can plot every metric without listing them."""
    rows = [
        {"rate": row["rate"], "metric": metric, "value": value}
        for row in evaluation.all_tables().get("noise_curve", [])
        for metric, value in row.items()
        if metric != "rate" and value is not None and not metric.startswith(("documents/", "labels/"))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_rows(path, rows, ("rate", "metric", "value"))


def write_evaluation(folder: Path, name: str, evaluation: Evaluation, card: dict[str, Any]) -> None:
    """Writes the files of an evaluation into an empty folder.

    Args:
        folder: the target folder.
        name: name of the composition, for plot titles.
        evaluation: the metrics, tables and examples.
        card: configuration and digests, for evaluation.json.
    """
    write_json(folder / "metrics.json", _rounded(evaluation.values()))
    metrics = {name: _rounded(metric.canonical()) for name, metric in evaluation.metrics.items()}
    write_json(
        folder / EVALUATION_FILE,
        {
            **card,
            "metrics": metrics,
            "chosen": evaluation.hyperparameters,
            "skipped": evaluation.skipped,
            "warnings": evaluation.warnings,
        },
    )
    plots = folder / "plots"
    plots.mkdir()
    for table, rows in evaluation.all_tables().items():
        _write_rows(folder / f"{table}.csv", rows)
        if table in PLOTS:
            title, plot = PLOTS[table]
            plot(plots / f"{table}.png", f"{name}: {title}", evaluation)
    lines = (json.dumps(example, ensure_ascii=False, sort_keys=True) for example in evaluation.examples)
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))


def _rounded(value: Any) -> Any:
    """A JSON value with all floats in it rounded."""
    match value:
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
        case float():
            return rounded(value)
    return value


def _write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """A rounded number, or a text that spreadsheets show instead of running it as a formula.

    Source: OWASP, "CSV Injection".

    >>> _cell("=1+1"), _cell("happy"), _cell(-0.5)
    ("'=1+1", 'happy', -0.5)
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return _rounded(value)
