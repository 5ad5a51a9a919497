"""The gate for tasks: compares two models on the same test texts, by paired bootstrap and by slices.

Whatever is missing, unreadable or not comparable is a refusal with its reason.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cclm_core.evaluation.metrics import EVALUATION_FILE, Bootstrap, read_metrics
from cclm_core.evaluation.promotion import SliceRule, TaskRules
from cclm_core.report.differences import measured_texts
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError, CclmError
from cclm_core.runtime.reporting import format_number
from flows.formats import ARROWS
from flows.gate.gate import Verdict
from flows.tracking.metrics import usable

# Whether an entity occurs in the training texts depends on them, so the same texts can be in another slice.
TRAINING_SLICES = ("entities",)


@dataclass(frozen=True)
class Slice:
    """The main metric on a part of the test texts.

    Attributes:
        texts: number of texts.
        score: the value.
    """

    texts: int
    score: float


def compare_tasks(candidate: Path, champion: Path, rules: TaskRules, remedy: str = "") -> Verdict:
    """Compares the results of a candidate with those of the champion.

    The candidate passes if its main metric is better, with its whole confidence interval above 0, on at least one test
    set (clean or noisy), worse with its whole interval below 0 on none, and not worse by more than the margin on any
    slice. An ensemble must also not be worse than its best part.

    Args:
        candidate: published results of the stage `test`.
        champion: the results of the champion.
        rules: section `promotion.tasks` of params.yaml.
        remedy: what a person can do if the models were measured on different texts.
    """
    try:
        refusal = _different_texts(_texts(candidate, "candidate"), _texts(champion, "champion"))
        if refusal:
            return Verdict(False, refusal + remedy)
        if rules.best_part and (refusal := _worse_than_part(candidate)):
            return Verdict(False, refusal + remedy)
        verdict = _compare_outcomes(candidate, champion, rules)
        if rules.slices is None or not verdict.passed:
            return verdict
        refusal = _worse_slices(_slices(candidate), _slices(champion), rules.slices, _better(candidate))
    except CclmError as error:
        return Verdict(False, f"it cannot be compared: {str(error).rstrip('.')}")
    except (IndexError, ValueError) as error:  # statistics that do not belong to their metric
        return Verdict(False, f"it cannot be compared, because the outcomes are malformed: {error}")
    return Verdict(False, f"{refusal} ({verdict.reason})") if refusal else verdict


def _texts(results: Path, owner: str) -> dict[str, str]:
    if not (texts := measured_texts(results)):
        raise ArtifactError(f"the results of the {owner} do not record on which texts it was measured. Run `cclm run`.")
    return texts


def _different_texts(candidate: Mapping[str, str], champion: Mapping[str, str]) -> str:
    """Why two models were not measured on the same texts; "" if they were."""
    if missing := sorted(champion.keys() - candidate.keys()):
        return f"it was not measured on {', '.join(missing)}, but the champion was"
    if added := sorted(candidate.keys() - champion.keys()):
        return f"it was measured on {', '.join(added)}, but the champion was not"
    if other := sorted(name for name in candidate if candidate[name] != champion[name]):
        return f"it was measured on other texts, targets or noise than the champion: {', '.join(other)}"
    return ""


def _compare_outcomes(candidate: Path, champion: Path, rules: TaskRules) -> Verdict:
    from cclm_core.finetuning.outcomes import gains, read_outcomes

    new, old = read_outcomes(candidate), read_outcomes(champion)
    if not new or {name for name, _ in new} != _texts(candidate, "candidate").keys():
        raise ArtifactError("the outcomes of the candidate do not cover all of its test sets. Run the stage `test`.")
    for owner, outcomes in (("candidate", new), ("champion", old)):
        if not all(np.isfinite(measurement.statistics).all() for _, measurement in outcomes.values()):
            return Verdict(False, f"the outcomes of the {owner} contain NaN or infinite values")
    seed = read_json(candidate / EVALUATION_FILE).get("seed")
    bootstrap = Bootstrap(resamples=rules.resamples, confidence=rules.confidence)
    num_better, num_worse, comparisons = 0, 0, []
    measured = dict(zip(new, gains(new, old, bootstrap, seed if isinstance(seed, int) else 0).values(), strict=True))
    for (name, metric), gain in measured.items():
        if not all(map(usable, gain)):
            return Verdict(False, f"the difference of {metric} on {name} is not a finite number")
        num_better += gain.low > 0
        num_worse += gain.high < 0
        outcome = "better" if gain.low > 0 else "worse" if gain.high < 0 else "no clear difference"
        values = [format_number(outcomes[name, metric][1].value) for outcomes in (new, old)]
        # A gain is positive where the candidate is better, also for metrics whose lower values are better.
        arrow = ARROWS[new[name, metric][1].better]
        interval = f"{100 * rules.confidence:g} % interval {gain.low:+.3g} to {gain.high:+.3g}"
        comparisons.append(
            f"{metric} {arrow} {name} {values[0]} vs {values[1]} (gain {gain.value:+.3g}, {interval}) {outcome}"
        )
    counts = f"better than the champion on {num_better} of {len(measured)} test sets (1 required), worse on {num_worse}"
    return Verdict(num_better > 0 and num_worse == 0, f"{counts}: {'; '.join(comparisons)}")


def _worse_than_part(candidate: Path) -> str:
    """Where an ensemble is worse than its best part; "" if it is not, or if the candidate is no ensemble."""
    metrics = read_metrics(candidate)
    if (count := metrics.get("worse_than_best_part")) is None:
        return ""
    if not usable(count.value):
        return "the number of test sets on which it is worse than its best part is not a number"
    gains = {name: metric for name, metric in metrics.items() if name.startswith("gain/") and metric.interval}
    worse = [
        f"{name.removeprefix('gain/')} {metric.value:+.3g} ({metric.interval[0]:+.3g} to {metric.interval[1]:+.3g})"
        for name, metric in gains.items()
        if metric.interval and metric.interval[1] < 0
    ]
    listed = f": {', '.join(worse)}" if worse else ""
    return f"it is worse than its best part on {count.value:g} test sets{listed}" if count.value or worse else ""


def _better(results: Path) -> str:
    from cclm_core.finetuning.outcomes import read_outcomes

    return next(measurement.better for _, measurement in read_outcomes(results).values())


def _worse_slices(
    candidate: Mapping[tuple[str, str], Slice], champion: Mapping[tuple[str, str], Slice], rule: SliceRule, better: str
) -> str:
    """The slices on which the candidate is worse, or that differ; "" if there are none."""
    problems = []
    for key in sorted(candidate.keys() | champion.keys()):
        new, old = candidate.get(key), champion.get(key)
        largest = max(part.texts for part in (new, old) if part is not None)
        name = f"{key[0]} = {key[1]}"
        if largest < rule.min_texts:
            continue
        if new is None or old is None or new.texts != old.texts:
            if key[0] in TRAINING_SLICES:
                continue
            counts = [0 if part is None else part.texts for part in (new, old)]
            problems.append(f"{name} has {counts[0]} texts, but {counts[1]} for the champion")
            continue
        loss = old.score - new.score if better == "higher" else new.score - old.score
        if not loss <= rule.margin:
            problems.append(
                f"{name} ({new.texts} texts) {format_number(new.score)} vs {format_number(old.score)} "
                f"({new.score - old.score:+.3g}, margin {rule.margin:g})"
            )
    return f"worse or not comparable on slices: {'; '.join(problems)}" if problems else ""


def _slices(results: Path) -> dict[tuple[str, str], Slice]:
    """The slices of published results; empty without slices.csv, which is not written without slices."""
    path = results / "slices.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return dict(_rows(csv.DictReader(stream), path))


def _rows(rows: "csv.DictReader[str]", path: Path) -> Iterator[tuple[tuple[str, str], Slice]]:
    for row in rows:
        try:
            part = Slice(int(row["texts"]), float(row["score"]))
            key = str(row["slice"]), str(row["value"])
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path} is damaged: {row!r:.100}. Run the stage `test` again.") from None
        if not usable(part.score):
            raise ArtifactError(f"{path}: the score of {key[0]} = {key[1]} must be finite. Run the stage `test` again.")
        yield key, part
