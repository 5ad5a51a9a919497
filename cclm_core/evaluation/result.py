"""The result of an evaluation."""

from dataclasses import dataclass, field, replace
from typing import Any

from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric, to_metric
from cclm_core.evaluation.probe import ProbeResult
from cclm_core.evaluation.selection import CLEAN, TextSet


@dataclass
class Evaluation:
    """Metrics, tables and examples of one composition.

    Attributes:
        bootstrap, seed: settings of the confidence intervals.
        metrics: by name: `METRIC_SET` on a test set, `METRIC_BASELINE` of a baseline, `contribution/COMPONENT/METRIC`
            for the loss without a component.
        skipped: probe (or `contributions`) -> why it was skipped.
        hyperparameters: values selected on the validation split.
        curve: noise rates with the metrics of their test set; the names have no `_SET`.
        tables: name of a CSV file -> its rows.
        examples: test documents with truth and prediction.
    """

    bootstrap: Bootstrap
    seed: int
    metrics: dict[str, Metric] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, float] = field(default_factory=dict)
    curve: list[tuple[float, dict[str, Metric]]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def values(self) -> dict[str, float]:
        """Metric -> value."""
        return {name: metric.value for name, metric in self.metrics.items()}

    def all_tables(self) -> dict[str, list[dict[str, Any]]]:
        """Name of a CSV file -> its rows, without empty files; `noise_curve` has one row per rate."""
        curve = [{"rate": rate, **{name: metric.value for name, metric in row.items()}} for rate, row in self.curve]
        tables = {"noise_curve": curve if any(row for _, row in self.curve) else [], **self.tables}
        return {name: rows for name, rows in tables.items() if rows}

    def add(self, result: ProbeResult, test_set: TextSet | None = None) -> dict[str, Metric]:
        """Adds the measurements of a probe on `test_set`; None for the test split of the corpus.

        A metric measured on the test split is not added again for the clean test set, which has fewer documents. That
        value is only returned, for the noise curve.

        Returns:
            The metrics by name, without the name of the test set.
        """
        curve: dict[str, Metric] = {}
        for name, measurement in result.metrics.items():
            is_known = test_set is not None and test_set.name == CLEAN and name in self.metrics
            full_name = name if test_set is None else f"{name}_{test_set.name}"
            baselines = {baseline: values[name] for baseline, values in result.baselines.items() if name in values}
            by_suffix = {"": self._publish(measurement, baselines)}
            by_suffix |= {f"_{baseline}": self._detail(value) for baseline, value in baselines.items()}
            curve |= {name + suffix: metric for suffix, metric in by_suffix.items()}
            if not is_known:
                self.metrics |= {full_name + suffix: metric for suffix, metric in by_suffix.items()}
            for component, values in result.without.items():
                if name in values:
                    self._add_contribution(component, full_name, measurement, values[name])
        for name, rows in result.tables.items():
            self.tables.setdefault(name, []).extend(rows)
        return curve

    def _add_contribution(self, component: str, name: str, whole: Measurement, without: Measurement) -> None:
        metric = self._detail(whole.loss_without(without))
        self.metrics[f"contribution/{component}/{name}"] = metric
        low, high = metric.interval or ("", "")
        row = {"component": component, "metric": name, "whole": whole.value, "without": without.value}
        self.tables.setdefault("contribution", []).append(
            {**row, "contribution": metric.value, "low": low, "high": high}
        )

    def _publish(self, measurement: Measurement, baselines: dict[str, Measurement]) -> Metric:
        return to_metric(measurement, baselines, self.bootstrap, self.seed)

    def _detail(self, measurement: Measurement) -> Metric:
        """A metric that tables and plots hide by default."""
        return self._publish(replace(measurement, headline=False), {})
