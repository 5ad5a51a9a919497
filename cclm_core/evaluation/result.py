"""What an evaluation measured."""

from dataclasses import dataclass, field, replace
from typing import Any

from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric, published
from cclm_core.evaluation.probe import Figures
from cclm_core.evaluation.selection import CLEAN, TextSet


@dataclass
class Evaluation:
    """What was measured.

    Attributes:
        bootstrap, seed: how confidence intervals are computed.
        metrics: by name. `<metric>_<test set>` for metrics of test sets, `<metric>_<baseline>` for baselines,
            `contribution/<component>/<metric>` for the loss without a component.
        skipped: what could not be measured, and why.
        chosen: hyperparameters that the validation documents chose.
        curve: for each noise rate, the metrics of the test set, without its name.
        tables: rows of the CSV files, by name of the file.
        examples: test documents with what is true and what was predicted.
    """

    bootstrap: Bootstrap
    seed: int
    metrics: dict[str, Metric] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, float] = field(default_factory=dict)
    curve: list[tuple[float, dict[str, Metric]]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def values(self) -> dict[str, float]:
        """The figures alone, by name."""
        return {name: metric.value for name, metric in self.metrics.items()}

    def all_tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of all CSV files that are not empty, by name of the file; `noise_curve` has a row per rate."""
        curve = [{"rate": rate, **{name: metric.value for name, metric in row.items()}} for rate, row in self.curve]
        tables = {"noise_curve": curve if any(row for _, row in self.curve) else [], **self.tables}
        return {name: rows for name, rows in tables.items() if rows}

    def add(self, figures: Figures, test_set: TextSet | None = None) -> dict[str, Metric]:
        """Adds what a probe measured, on a test set or on the test split; returns the metrics by their own names.

        A metric that was measured on the test split already keeps the figure that was measured there, of more documents
        than the clean test set has: that one is only part of the noise curve.
        """
        curve: dict[str, Metric] = {}
        for name, measurement in figures.metrics.items():
            known = test_set is not None and test_set.name == CLEAN and name in self.metrics
            full = name if test_set is None else f"{name}_{test_set.name}"
            baselines = {other: values[name] for other, values in figures.baselines.items() if name in values}
            named = {"": self._publish(measurement, baselines)}
            named |= {f"_{other}": self._detail(value) for other, value in baselines.items()}
            curve |= {name + suffix: metric for suffix, metric in named.items()}
            if not known:
                self.metrics |= {full + suffix: metric for suffix, metric in named.items()}
            for component, values in figures.without.items():
                if name in values:
                    self._contribution(component, full, measurement, values[name])
        for name, rows in figures.tables.items():
            self.tables.setdefault(name, []).extend(rows)
        return curve

    def _contribution(self, component: str, name: str, whole: Measurement, without: Measurement) -> None:
        metric = self._detail(whole.loss_without(without))
        self.metrics[f"contribution/{component}/{name}"] = metric
        low, high = metric.interval or ("", "")
        row = {"component": component, "metric": name, "whole": whole.value, "without": without.value}
        self.tables.setdefault("contribution", []).append(
            {**row, "contribution": metric.value, "low": low, "high": high}
        )

    def _publish(self, measurement: Measurement, baselines: dict[str, Measurement]) -> Metric:
        return published(measurement, baselines, self.bootstrap, self.seed)

    def _detail(self, measurement: Measurement) -> Metric:
        """A metric that tables and plots do not show by default."""
        return self._publish(replace(measurement, headline=False), {})
