"""The stage `evaluate`: evaluates one frozen composition and writes metrics, tables, plots and examples. It publishes:

```
metrics.json         values by metric name
evaluation.json      metrics with direction, interval and baselines; configuration; digests of the inputs;
                     skipped probes with reasons; warnings, such as about few test documents
noise_curve.csv      rate, then one column per metric and sample size             plots/noise_curve.png
entities.csv         set, label, gold, predicted, precision, recall, f1
confusion.csv        id, true, predicted; one row per document                    plots/confusion.png
contribution.csv     component, metric, whole, without, contribution, low, high   plots/contribution.png
parts.csv            probe, component, read: which components each probe reads
choice.json          per probe: how they are read, what else was compared, with the loss on validation texts
alone.csv            set, part, best, metric, alone, composition, gain, low, high: each component alone
predictions.jsonl    some documents of the first and the last test set
```
"""

import sys
from pathlib import Path

from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.files import write_evaluation, write_noise_curve
from cclm_core.evaluation.selection import read_text_sets
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.device import select_device
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


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
    """Evaluates a composition and publishes the files that the module lists. Tables without rows are not written.

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
        write_noise_curve(noise_curve, evaluation)
