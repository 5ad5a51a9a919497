"""`cclm evaluate`: the metrics of the model of a task on any labeled files, clean and under noise."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cclm_core.cli.columns import print_columns
from cclm_core.cli.inputs import Problems
from cclm_core.evaluation.metrics import Bootstrap, Metric, to_metric
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.evaluate import model_predictor, noised_texts
from cclm_core.finetuning.measures import measure
from cclm_core.finetuning.store import load_task
from cclm_core.labeled.checks import label_counts
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.examples import LabeledText
from cclm_core.labeled.reading import read_sources
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.reporting import format_number
from cclm_core.runtime.terminal import printable
from cclm_core.survey.files import DataFile, find_data
from cclm_core.survey.profile import profiles
from cclm_core.survey.roles import Asked, Roles, TaskKind, roles_of
from cclm_core.survey.rows import first_rows

_SHOWN = 10  # unknown labels that are listed

Results = dict[str, dict[str, Metric]]
"""Test set -> metric -> its value."""


@dataclass(frozen=True, kw_only=True)
class LabeledInput:
    """Labeled files and their columns; None for those that `cclm init` would choose."""

    paths: Sequence[str]
    text: str | None = None
    second: str | None = None
    label: tuple[str, ...] = ()
    tags: str | None = None
    tag_names: tuple[str, ...] = ()
    encoding: str | None = None


def evaluate(
    folder: Path, wanted: LabeledInput, rates: Sequence[float], seed: int, threads: int, as_json: bool
) -> Problems:
    """Measures a model on labeled files and prints the metrics.

    Args:
        folder: folder of the model of a task.
        wanted: what to read.
        rates: shares of the letters with typing errors, one noisy copy of the texts each.
        seed: seed of the noise and of the intervals.
        threads: CPU threads.
        as_json: print JSON instead of a table.

    Returns:
        The rows that were left out.

    Raises:
        DataError: the files cannot be read, have no usable text, or none of their labels is known to the model.
    """
    model = load_task(folder).to(select_device())
    problems = Problems()
    texts = read_labeled(model, wanted, problems)
    unknown = unknown_labels(model, texts)
    with num_threads(threads):
        results = measured(model, texts, rates, seed)
    if as_json:
        values = {name: {key: value.canonical() for key, value in row.items()} for name, row in results.items()}
        document = {"model": model.name, "task": model.task, "texts": len(texts), "unknown_labels": dict(unknown)}
        print(json.dumps(document | {"metrics": values}, indent=2))
        return problems
    _show(model, texts, unknown, results)
    return problems


def read_labeled(model: AnyTaskModel, wanted: LabeledInput, problems: Problems) -> list[LabeledText]:
    """The labeled texts of files, for the task of a model.

    Raises:
        DataError: see `evaluate`.
    """
    files, _ = find_data(wanted.paths, {}, wanted.encoding)
    if text_files := [file for file in files if file.is_text]:
        raise DataError(f"{text_files[0].path} is plain text, which has no labels. Use CSV, JSON lines or CoNLL.")
    texts: list[LabeledText] = []
    for file in files:
        entry = _entry(model, file, wanted)
        config = LabeledConfig.parse({**entry, "test": {"share": 0.5}}, str(file.path))
        try:
            read = read_sources(config, "data", Path())
        except DataError as error:
            raise DataError(str(error).replace("labeled.data.source", str(file.path))) from None
        texts += [example.text for example in read.examples["train"]]
        for item in read.rejected:
            problems.add(item)
    if not texts:
        raise DataError(f"no usable text in {', '.join(map(str, wanted.paths))}. Check the columns.")
    return texts


def unknown_labels(model: AnyTaskModel, texts: Sequence[LabeledText]) -> Counter[str]:
    """Label that the model does not know -> the number of texts, or entities, that have it.

    Raises:
        DataError: the model knows none of the labels.
    """
    counts = label_counts(texts)
    unknown = Counter({label: count for label, count in counts.items() if label not in model.labels})
    if counts and len(unknown) == len(counts):
        own = ", ".join(sorted(unknown)[:5])
        raise DataError(
            f"the model {model.name} knows none of the labels of the data, such as {own}; it knows "
            f"{', '.join(model.labels[:5])}{' and others' if len(model.labels) > 5 else ''}. Check the column."
        )
    return unknown


def measured(model: AnyTaskModel, texts: Sequence[LabeledText], rates: Sequence[float], seed: int) -> Results:
    """The metrics of a model on texts, by test set: `clean`, `noise_0.1` and so on."""
    predict, bootstrap, results = model_predictor(model), Bootstrap(), {}
    copies = {"clean": list(texts)}
    for rate in rates:
        noiser = TextNoiser(NoiseRecipe(rate=rate))
        copies[f"noise_{rate:g}"] = noised_texts(texts, noiser, seed, f"noise_{rate:g}")
    for name, copy in copies.items():
        measurements = measure(model.task, copy, predict(copy))
        results[name] = {key: to_metric(value, {}, bootstrap, seed) for key, value in measurements.items()}
    return results


def _entry(model: AnyTaskModel, file: DataFile, wanted: LabeledInput) -> dict[str, Any]:
    settings: dict[str, Any] = file.layout.settings()
    scheme = settings.pop("tag_scheme", None)
    source: dict[str, Any] = {"kind": "files", "paths": [str(file.path)], **settings}
    entry: dict[str, Any] = {"task": model.task, "source": source}
    if scheme is not None:
        entry["tag_scheme"] = scheme
    if file.is_table:
        roles = _roles(model, file, wanted)
        source["columns"] = roles.columns
        if roles.label_separator is not None:
            entry["label_separator"] = roles.label_separator
        if roles.needs_tag_names:
            entry["tag_names"] = list(wanted.tag_names)
    elif model.task != "tag":
        raise DataError(f"{file.path} is CoNLL, but the model {model.name} has the task {model.task}.")
    return entry


def _roles(model: AnyTaskModel, file: DataFile, wanted: LabeledInput) -> Roles:
    columns = profiles(chain(first_rows(file.path, str(file.path), file.layout)))
    label = wanted.label
    if not label and model.task != "tag" and "label" in columns:
        label = ("label",)
    task: TaskKind = model.task
    asked = Asked(text=wanted.text, second=wanted.second, label=label, tags=wanted.tags, task=task)
    roles = roles_of(columns, asked, str(file.path))
    if model.is_pair != ("second" in roles.columns):
        if not model.is_pair:
            roles.columns.pop("second")
        else:
            raise DataError(f"the model {model.name} reads pairs of texts. Pass --second COLUMN for {file.path}.")
    return roles


def _show(model: AnyTaskModel, texts: Sequence[LabeledText], unknown: Counter[str], results: Results) -> None:
    print(f"{model.name}: {model.task}, {len(texts):,} texts\n")
    rows = [("set", "metric", "value", "from", "to")]
    for name, metrics in results.items():
        for key, metric in metrics.items():
            low, high = metric.interval or ("", "")
            rows.append((name, key, f"{metric.value:.4f}", _shown(low), _shown(high)))
    print_columns(rows)
    if unknown:
        listed = ", ".join(f"{printable(label)} ({count:,})" for label, count in unknown.most_common(_SHOWN))
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        what = "entities" if model.task == "tag" else "texts"
        share = format_number(100 * unknown.total() / max(1, label_counts(texts).total()))
        print(
            f"\nwarning: {len(unknown)} labels are unknown to the model, with {unknown.total():,} {what} ({share} %), "
            f"which count as errors: {listed}{more}"
        )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"
