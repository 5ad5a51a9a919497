"""The result of an evaluation."""

from dataclasses import dataclass, field, replace
from typing import Any

from cclm_core.evaluation.best_part import WORSE, BestPart
from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric, to_metric
from cclm_core.evaluation.probe import ProbeResult
from cclm_core.evaluation.selection import CLEAN, TextSet


@dataclass
class Evaluation:
    """Metrics, tables and examples of one composition.

    Attributes:
        bootstrap, seed: settings of the confidence intervals.
        metrics: by name: `METRIC_SET` on a test set, `METRIC_BASELINE` of a baseline, `contribution/COMPONENT/METRIC`
            for the loss without a component, `gain/METRIC` for the difference to the best component alone,
            `documents/METRIC` and `labels/METRIC` for the number of documents and
            of distinct gold labels that a headline metric is measured on.
        skipped: probe (or `contributions`) -> why it was skipped.
        hyperparameters: values selected on the validation split.
        choices: probe -> which components it reads and how, with what was compared, as JSON values.
        curve: noise rates with the metrics of their test set; the names have no `_SET`.
        warnings: what makes metrics less reliable than they look.
        tables: name of a CSV file -> its rows.
        examples: test documents with truth and prediction.
    """

    bootstrap: Bootstrap
    seed: int
    metrics: dict[str, Metric] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, float] = field(default_factory=dict)
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[tuple[float, dict[str, Metric]]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _best_part: BestPart | None = None

    def values(self) -> dict[str, float]:
        """Metric -> value."""
        return {name: metric.value for name, metric in self.metrics.items()}

    def all_tables(self) -> dict[str, list[dict[str, Any]]]:
        """Name of a CSV file -> its rows, without empty files; `noise_curve` has one row per rate."""
        names: dict[str, Any] = {name: None for _, row in self.curve for name in row}  # some rates lack some of them
        rows = ((rate, {name: metric.value for name, metric in row.items()}) for rate, row in self.curve)
        curve = [{"rate": rate, **names, **values} for rate, values in rows]
        tables = {"noise_curve": curve if any(row for _, row in self.curve) else [], **self.tables}
        return {name: rows for name, rows in tables.items() if rows}

    def add(self, result: ProbeResult, test_set: TextSet | None = None) -> dict[str, Metric]:
        """Adds the measurements of a probe on `test_set`; None for the test split of the corpus.

        A metric measured on the test split keeps its name for that value. If the clean test set has fewer documents,
        its value is added as `METRIC_clean`, the first point of the noise curve; otherwise that point is the value of
        the test split.

        Returns:
            The metrics by name, without the name of the test set.
        """
        curve: dict[str, Metric] = {}
        for name, measurement in result.metrics.items():
            known = self.metrics.get(name) if test_set is not None and test_set.name == CLEAN else None
            full_name = name if test_set is None else f"{name}_{test_set.name}"
            baselines = {baseline: values[name] for baseline, values in result.baselines.items() if name in values}
            if known is not None and known.documents == measurement.documents:
                curve |= {name: known, **_sizes(name, known)}
                continue
            metric = self._publish(measurement, baselines)
            details = {f"_{baseline}": self._detail(value) for baseline, value in baselines.items()}
            curve |= {name: metric, **_sizes(name, metric)}
            curve |= {name + suffix: detail for suffix, detail in details.items()}
            shown = metric if known is None else metric.model_copy(update={"headline": False})
            self.metrics |= {full_name: shown, **_sizes(full_name, metric)}
            self.metrics |= {full_name + suffix: detail for suffix, detail in details.items()}
            for component, values in result.without.items():
                if name in values:
                    self._add_contribution(component, full_name, measurement, values[name])
            if alone := {component: values[name] for component, values in result.alone.items() if name in values}:
                self._compare(test_set.name if test_set else "test", name, full_name, measurement, alone)
        for name, rows in result.tables.items():
            self.tables.setdefault(name, []).extend(rows)
        self.warnings += [warning for warning in result.warnings if warning not in self.warnings]
        return curve

    def _add_contribution(self, component: str, name: str, whole: Measurement, without: Measurement) -> None:
        metric = self._detail(whole.loss_without(without))
        self.metrics[f"contribution/{component}/{name}"] = metric
        low, high = metric.interval or ("", "")
        row = {"component": component, "metric": name, "whole": whole.value, "without": without.value}
        self.tables.setdefault("contribution", []).append(
            {**row, "contribution": metric.value, "low": low, "high": high}
        )

    def _compare(
        self, test_set: str, name: str, full_name: str, own: Measurement, alone: dict[str, Measurement]
    ) -> None:
        """Adds the differences to each component alone."""
        if self._best_part is None:
            self._best_part = BestPart(self.bootstrap, self.seed, "composition")
        gain, warnings = self._best_part.add(test_set, name, own, alone)
        self.metrics[f"gain/{full_name}"] = gain
        self.metrics[WORSE] = Metric(value=self._best_part.num_worse, better="lower")
        self.tables["alone"] = self._best_part.rows
        self.warnings += warnings

    def _publish(self, measurement: Measurement, baselines: dict[str, Measurement]) -> Metric:
        return to_metric(measurement, baselines, self.bootstrap, self.seed)

    def _detail(self, measurement: Measurement) -> Metric:
        """A metric that tables and plots hide by default."""
        return self._publish(replace(measurement, headline=False), {})


def _sizes(name: str, metric: Metric) -> dict[str, Metric]:
    """The numbers of documents and labels that a headline metric is measured on, as metrics."""
    sizes = {"documents": metric.documents, "labels": metric.labels} if metric.headline else {}
    return {f"{kind}/{name}": Metric(value=number) for kind, number in sizes.items() if number is not None}
