"""The content of a model card, read from the JSON and CSV files that stages publish next to a model.

```
card.json         stage, seed, digests of the inputs, configuration
metrics.json      values by name: of the training, or sizes of a composition
evaluation.json   in the folder of the results: metrics with interval and baselines, skipped probes, warnings
noise_curve.csv   in the folder of the results: one row per noise rate
```
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json
from cclm_core.runtime.errors import ArtifactError

_CARD, _METRICS, _EVALUATION, _CURVE = "card.json", "metrics.json", "evaluation.json", "noise_curve.csv"
_DIGESTS = ("digest", "data", "vocabulary", "base", "composition", "encoded", "noise", "code")
_SIZES = ("documents/", "labels/")  # prefixes of sample sizes among the metrics


@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured value.

    Attributes:
        value: the value.
        interval: its confidence interval, low and high, if known.
        better: `higher` or `lower`; None if neither is an improvement.
        documents: number of measured documents, if known.
        baselines: name -> value of what it is compared with.
    """

    value: float
    interval: tuple[float, float] | None = None
    better: str | None = None
    documents: int | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about an item; what is unknown is left out of its card.

    Attributes:
        name: the title.
        kind: what it is, e.g. `composition`.
        description: one or two sentences.
        license: preferably an SPDX expression; "" if nobody stated it.
        about: further facts by name, e.g. `parts` or `revision`.
        digests: SHA-256 by what they identify, e.g. `data`.
        scores: measured values by name.
        curve: one row per noise rate: `rate`, then metrics.
        metrics: values of the training by name, or others without intervals.
        limits: what the model cannot do, one sentence each.
        usage: Python code that loads and runs it.
        configuration: the complete configuration.
        files: path, size in bytes and SHA-256 of each file.
        tags: for the search of a model hub.
        pipeline: the Hugging Face pipeline that runs it, if any.
    """

    name: str
    kind: str
    description: str = ""
    license: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    curve: Sequence[Mapping[str, str]] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()
    usage: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, int, str]] = ()
    tags: Sequence[str] = ()
    pipeline: str | None = None


def facts_of(folder: Path, kind: str, results: Path | None = None, **further: Any) -> Facts:
    """The facts of a published folder.

    Args:
        folder: output of a stage or of `save`.
        kind: what it contains, e.g. `component`.
        results: folder of its evaluation, output of `evaluate`; None if it was not evaluated.
        further: attributes of `Facts`; `limits` are added to those of the evaluation.

    Raises:
        ArtifactError: a file is damaged, or `results` contains no evaluation.
    """
    card = _mapping(folder / _CARD)
    evaluation = {} if results is None else _mapping(results / _EVALUATION)
    if results is not None and not evaluation:
        raise ArtifactError(f"{_EVALUATION} not found in {results}. Name the output of the stage `evaluate`.")
    seed = {"seed": str(card["seed"])} if "seed" in card else {}
    limits = [*further.pop("limits", ()), *map(_sentence, _texts(evaluation.get("warnings", [])))]
    limits += [f"Not measured: {name} ({reason})." for name, reason in evaluation.get("skipped", {}).items()]
    values: dict[str, Any] = {
        "name": str(card.get("name") or card.get("stage") or folder.name),
        "kind": kind,
        "about": seed | dict(further.pop("about", {})),
        "digests": _digests(card, folder),
        "scores": _scores(evaluation.get("metrics", {}), results),
        "curve": [] if results is None else _curve(results / _CURVE),
        "metrics": _mapping(folder / _METRICS),
        "limits": limits,
        "configuration": card.get("configuration", {}),
    }
    return Facts(**(values | further))


def _digests(card: Mapping[str, Any], folder: Path) -> dict[str, str]:
    known = {name: card[name] for name in _DIGESTS if isinstance(card.get(name), str)}
    if "digest" in known:
        known = {"model": known.pop("digest"), **known}
    return known | ({"files": folder_digest(folder)} if (folder / MANIFEST).is_file() else {})


def _scores(metrics: Any, results: Path | None) -> dict[str, Score]:
    """The headline metrics of an evaluation; all of them if it names none."""
    shown: dict[str, Score] = {}
    if not isinstance(metrics, dict) or not all(isinstance(metric, dict) for metric in metrics.values()):
        raise ArtifactError(f"{results}/{_EVALUATION}: `metrics` must map names to objects. Run the stage again.")
    headlines = {name: metric for name, metric in metrics.items() if metric.get("headline")}
    for name, metric in (headlines or metrics).items():
        if name.startswith(_SIZES):
            continue
        interval = metric.get("interval")
        shown[name] = Score(
            value=metric["value"],
            interval=None if interval is None else (interval[0], interval[1]),
            better=metric.get("better"),
            documents=metric.get("documents"),
            baselines={baseline["name"]: baseline["value"] for baseline in metric.get("baselines", ())},
        )
    return shown


def _curve(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [dict(row) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Run the stage `evaluate` again.") from None
    return [{name: value for name, value in row.items() if not name.startswith(_SIZES)} for row in rows]


def _mapping(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file does not exist."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must contain a JSON object, got {type(value).__name__}. Run its stage again.")
    return value


def _texts(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _sentence(text: str) -> str:
    """A sentence that begins with a capital letter and ends with a period."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
