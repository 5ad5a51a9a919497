"""The gate: may a candidate become the champion? It fails closed: whatever is missing or unclear means no."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.runtime.config import load_yaml
from flows.project import Project
from flows.tracking.metrics import usable

PROBE_SECONDS = 600


def promotion_config(project: Project) -> PromotionConfig:
    """`params.yaml: promotion`.

    Raises:
        ConfigError: the section is invalid.
    """
    path = project.params_file
    return PromotionConfig.parse(load_yaml(path).get("promotion"), f"{path.name}: promotion")


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may be champion, and why.

    Attributes:
        lasts: whether the answer is valid until something that is compared changes; otherwise the gate is asked again.
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
    """Compares the metrics of a candidate with the champion's (None: its metrics are unreadable).

    Args:
        directions: `higher` or `lower` for each metric, as the candidate's evaluation gives it. A rule need not repeat
            it, and must not contradict it.

    >>> rule = PromotionConfig(metrics={"f1": "higher"}, margin=0.01)
    >>> compare({"f1": 0.8}, {"f1": 0.7}, rule)
    Verdict(passed=True, reason='f1 0.8 against 0.7: better')
    >>> compare({"f1": 0.705}, {"f1": 0.7}, rule).passed
    False
    """
    directions = directions or {}
    if not config.metrics:
        return Verdict(False, "params.yaml names no metric under promotion: metrics, so nothing can be compared")
    if champion is None:
        return Verdict(False, "the champion's metrics cannot be read, so nothing can be compared")
    improved, worse, reasons = 0, False, []
    for name, rule in config.metrics.items():
        new, old = candidate.get(name), champion.get(name)
        for whose, value in (("candidate", new), ("champion", old)):
            if not usable(value):
                return Verdict(False, f"the {whose} has no usable metric {name} (got {value})")
        assert new is not None
        assert old is not None
        known = {rule.better, directions.get(name)} - {None}
        if len(known) != 1:
            stated = f"params.yaml says {rule.better}, the evaluation says {directions.get(name)}"
            return Verdict(False, f"which direction of {name} is better must be known: {stated}")
        better = known.pop()
        gain = new - old if better == "higher" else old - new
        margin = config.margin if rule.margin is None else rule.margin
        # 0.72 - 0.7 is a little more than 0.02 in floating point; that is no improvement.
        differs = abs(gain) > margin and not math.isclose(abs(gain), margin, rel_tol=1e-9)
        improved += differs and gain > 0
        worse |= differs and gain < 0
        word = "no more different than the margin" if not differs else "better" if gain > 0 else "worse"
        reasons.append(f"{name} {new:.4g} against {old:.4g}: {word}")
    wanted = len(config.metrics) if config.improved is None else config.improved
    return Verdict(not worse and improved >= wanted, "; ".join(reasons))


def probe(uri: str, tracking_uri: str) -> Verdict:
    """Loads the registered model in a fresh process, away from this project's folder, and lets it predict."""
    settings = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    settings |= {"OMP_NUM_THREADS": "1"}  # a few short texts: more threads would only wait for each other
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "flows.gate.probe", uri],
                cwd=elsewhere,
                env=settings,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(False, f"it did not load and predict within {PROBE_SECONDS} s in a fresh process")
    if done.returncode == 0:
        return Verdict(True, "loads and predicts in a fresh process")
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return Verdict(False, f"it does not load and predict in a fresh process: {last[0][:300]}")
