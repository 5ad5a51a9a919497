"""The stage `evaluate`: measures one frozen composition and writes figures, tables, plots and examples."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.plots import plot_confusion, plot_contributions, plot_noise_curve
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import read_text_sets
from cclm_core.runtime.artifacts import publishing, verify, write_json, write_text
from cclm_core.runtime.device import chosen_device
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.reporting import Report
from cclm_core.steps import parameters


def evaluate(params: Path, name: str, composition: Path, encoded: Path, noise: Path, out: Path, report: Report) -> None:
    """Evaluates the composition `name` and publishes the results at `out`.

    ```
    metrics.json         figures by name
    evaluation.json      configuration, digests of the inputs, what was skipped and why
    noise_curve.csv      figures by noise rate        plots/noise_curve.png
    entities.csv         figures by noise rate and entity label
    confusion.csv        labels, true by predicted    plots/confusion.png
    contribution.csv     figures without each component   plots/contribution.png
    predictions.jsonl    some test documents, clean and at the highest rate
    ```

    What could not be measured has no figure and no file.

    Raises:
        CclmError: an input is missing or damaged, or the composition has another vocabulary than the corpus;
            `out` is left as it was.
    """
    config = parameters.section(params, "evaluation", EvaluationConfig)
    seed = parameters.seed(params)
    digests = {
        kind: verify(folder, kind)
        for kind, folder in (("composition", composition), ("encoded", encoded), ("noise", noise))
    }
    corpus, composed = EncodedCorpus.open(encoded), load_composition(composition).to(chosen_device())
    if composed.preprocessor.digest != corpus.preprocessor.digest:
        raise CompositionError(
            f"{composition} must share the vocabulary of {encoded}: it was trained with "
            f"{composed.preprocessor.digest[:12]}, the corpus has {corpus.preprocessor.digest[:12]}. Train it anew."
        )
    evaluation = evaluate_composition(composed, corpus, read_text_sets(noise), config, seed, report)
    about = {"stage": "evaluate", "name": name, "seed": seed, **digests, "configuration": config.canonical()}
    with publishing(out, "evaluation") as folder:
        write_evaluation(folder, name, evaluation, about)


def write_evaluation(folder: Path, name: str, evaluation: Evaluation, about: dict[str, Any]) -> None:
    """Writes the files of an evaluation into an empty folder; `about` goes into evaluation.json."""
    contributions = evaluation.contributions()
    metrics = evaluation.metrics | {
        f"contribution/{row['component']}/{row['metric']}": row["contribution"] for row in contributions
    }
    write_json(folder / "metrics.json", {key: rounded(value) for key, value in metrics.items()})
    write_json(folder / "evaluation.json", {**about, "chosen": evaluation.chosen, "skipped": evaluation.skipped})
    plots = folder / "plots"
    plots.mkdir()
    if any(len(row) > 1 for row in evaluation.curve):
        _write_rows(folder / "noise_curve.csv", evaluation.curve)
        plot_noise_curve(plots / "noise_curve.png", f"{name}: scores under typing noise", evaluation.curve)
    if contributions:
        _write_rows(folder / "contribution.csv", contributions)
        plot_contributions(plots / "contribution.png", f"{name}: what each component adds", contributions)
    if evaluation.entities:
        _write_rows(folder / "entities.csv", evaluation.entities)
    if evaluation.genres:
        labels, confusion = evaluation.genres
        rows = [
            {"true": label, **dict(zip(labels, numbers, strict=True))}
            for label, numbers in zip(labels, confusion.tolist(), strict=True)
        ]
        _write_rows(folder / "confusion.csv", rows)
        plot_confusion(plots / "confusion.png", f"{name}: labels of held-out documents", evaluation.genres)
    lines = (json.dumps(example, ensure_ascii=False, sort_keys=True) for example in evaluation.examples)
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))


def rounded(value: float) -> float:
    """Six significant digits; whole numbers as they are.

    >>> rounded(0.123456789)
    0.123457
    """
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: rounded(value) if isinstance(value, float) else value for key, value in row.items()})
