"""Compares a model of several parts with each part alone, on the same texts: it must not be worse than the best."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric
from cclm_core.runtime.reporting import format_number

WORSE = "worse_than_best_part"
"""Metric: the number of test sets on which the model is worse than its best part beyond the interval."""


@dataclass
class BestPart:
    """Collects the comparisons of one evaluation.

    Attributes:
        bootstrap, seed: settings of the confidence intervals.
        whole: what the table calls the model: `ensemble` or `composition`.
        rows: a row per test set, metric and part.
        num_worse: number of comparisons with the best part that the model lost beyond the interval.
    """

    bootstrap: Bootstrap
    seed: int
    whole: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    num_worse: int = 0

    def add(
        self, test_set: str, metric: str, own: Measurement, alone: Mapping[str, Measurement]
    ) -> tuple[Metric, list[str]]:
        """Adds the paired differences to each part on one test set.

        Args:
            test_set: the name of the test set.
            metric: the name of the metric.
            own: the measurement of the model.
            alone: part -> its measurement on the same texts.

        Returns:
            The difference to the best part on this test set, and a warning if the model is worse.
        """
        best = max(alone, key=lambda name: alone[name].value)
        gains: dict[str, Metric] = {}
        for name, measured in alone.items():
            gain = own.loss_without(measured)
            low, high = self.bootstrap.interval(gain, self.seed) or (gain.value, gain.value)
            row = {"set": test_set, "part": name, "best": "yes" if name == best else "", "metric": metric}
            values = {"alone": measured.value, self.whole: own.value, "gain": gain.value, "low": low, "high": high}
            self.rows.append(row | values)
            gains[name] = Metric(value=gain.value, better="higher", interval=(low, high), documents=own.documents)
        low, high = gains[best].interval or (0.0, 0.0)
        if high >= 0:
            return gains[best], []
        self.num_worse += 1
        values_text = f"{metric} {format_number(own.value)} vs {format_number(alone[best].value)}"
        confidence = f"{100 * self.bootstrap.confidence:g} %"
        return gains[best], [
            f"worse than its part {best} on {test_set}: {values_text} ({confidence} interval of the difference "
            f"{low:+.3g} to {high:+.3g})"
        ]
