"""The gate: decides whether a candidate may become the champion. If anything is missing or unclear, it may not."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.reporting import format_number
from flows.formats import ARROWS
from flows.project import Project
from flows.tracking.metrics import usable

LOAD_CHECK_SECONDS = 600
SECTION = "params.yaml: promotion"


def promotion_config(project: Project) -> PromotionConfig:
    """Reads the section `promotion` of params.yaml.

    Raises:
        ConfigError: the section is invalid.
    """
    path = project.params_file
    return PromotionConfig.parse(load_yaml(path).get("promotion"), f"{path.name}: promotion")


@dataclass(frozen=True)
class Verdict:
    """The gate's answer for a candidate.

    Attributes:
        passed: whether the candidate may become champion.
        reason: why, for people.
        lasts: whether the answer is valid until its inputs change. Otherwise the next run asks the gate again.
    """

    passed: bool
    reason: str
    lasts: bool = field(default=True, repr=False)


def compare(
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None,
    config: PromotionConfig,
    directions: Mapping[str, str | None] | None = None,
) -> Verdict:
    """Compares the metrics of a candidate with those of the champion.

    The candidate passes if it is better by more than the margin on enough metrics, and worse by more than the margin on
    none.

    Args:
        champion: the champion's metrics; None if they cannot be read.
        directions: metric -> `higher` or `lower`, from the candidate's evaluation. params.yaml can repeat a direction,
            but must not contradict it.

    >>> rules = PromotionConfig(metrics={"f1": "higher"}, margin=0.01)
    >>> print(compare({"f1": 0.8}, {"f1": 0.7}, rules).reason)
    1 of 1 metrics better than the champion (1 required), 0 worse: f1 ↑ 0.800 vs 0.700 (+0.1, margin 0.01) better
    >>> compare({"f1": 0.705}, {"f1": 0.7}, rules).passed
    False
    """
    directions = directions or {}
    if not config.metrics:
        return Verdict(False, f"there is nothing to compare: add metrics to {SECTION}.metrics")
    if champion is None:
        return Verdict(False, "the champion's metrics cannot be read, so there is nothing to compare with")
    num_better, num_worse, comparisons = 0, 0, []
    for name, rule in config.metrics.items():
        new, old = candidate.get(name), champion.get(name)
        for owner, value in (("candidate", new), ("champion", old)):
            if not usable(value):
                return Verdict(False, f"the {owner}'s metric {name} must be a finite number, got {value}")
        assert new is not None
        assert old is not None
        stated = {rule.better, directions.get(name)} - {None}
        if len(stated) != 1:
            return Verdict(False, _unclear_direction(name, rule.better, directions.get(name)))
        better = stated.pop()
        gain = new - old if better == "higher" else old - new
        margin = config.margin if rule.margin is None else rule.margin
        # 0.72 - 0.7 is slightly more than 0.02 in floating point, which does not count as an improvement.
        beyond_margin = abs(gain) > margin and not math.isclose(abs(gain), margin, rel_tol=1e-9)
        num_better += beyond_margin and gain > 0
        num_worse += beyond_margin and gain < 0
        outcome = "within the margin" if not beyond_margin else "better" if gain > 0 else "worse"
        values = f"{name} {ARROWS[better]} {format_number(new)} vs {format_number(old)}"
        comparisons.append(f"{values} ({new - old:+.3g}, margin {margin:g}) {outcome}")
    required = len(config.metrics) if config.improved is None else config.improved
    counts = f"{num_better} of {len(config.metrics)} metrics better than the champion ({required} required)"
    counts += f", {num_worse} worse"
    return Verdict(not num_worse and num_better >= required, f"{counts}: {'; '.join(comparisons)}")


def _unclear_direction(name: str, configured: str | None, evaluated: str | None) -> str:
    if configured and evaluated:
        return (
            f"it is unclear which direction of {name} is better: {SECTION} has {configured}, but the evaluation "
            f"reports {evaluated}. Correct `better` in params.yaml, or remove it"
        )
    return (
        f"it is unknown which direction of {name} is better: neither {SECTION} nor the evaluation has it. Add "
        f"`better: higher` or `better: lower` to {SECTION}.metrics.{name}"
    )


def load_check(uri: str, tracking_uri: str) -> Verdict:
    """Loads a registered model in a new process, outside the project's folder, and lets it predict."""
    settings = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    settings |= {"OMP_NUM_THREADS": "1"}  # more threads only slow down a few short texts
    with tempfile.TemporaryDirectory() as empty_folder:
        try:
            process = subprocess.run(
                [sys.executable, "-m", "flows.gate.load_check", uri],
                cwd=empty_folder,
                env=settings,
                capture_output=True,
                text=True,
                timeout=LOAD_CHECK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(False, f"it does not load and predict within {LOAD_CHECK_SECONDS} s in a new process")
    if process.returncode == 0:
        return Verdict(True, "loads and predicts in a new process")
    last_line = process.stderr.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
    return Verdict(False, f"it does not load and predict in a new process: {last_line[0][:300]}")
