"""Saved views of MLflow's runs page: which runs, columns and charts a link opens. Checked for MLflow `CHECKED`.

MLflow's pages save a view as a tag of the experiment, `mlflow.sharedViewState.KEY`, and open it at the address of the
runs page with `viewStateShareKey=KEY`; their menu lists all views by name. There is no API for views, so
`save_views` writes what the pages write: an object with `name`, `createdAt`, `updatedAt` (milliseconds) and `state`,
which is "deflate;" and the base64 of compressed JSON. The state has fields of the runs page, such as `searchFilter`,
and of its charts: `compareRunCharts`, `compareRunSections`. The pages add a chart for every metric without one, in a
section named by the start of the metric, so these sections are part of a view, too: closed.

`tests/flows/test_chart_views.py` fails if another version of MLflow is installed or its pages no longer contain `USED`.
Open the views of the new version in a browser, then widen `CHECKED`.
"""

import base64
import json
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import parse_json
from flows.tracking.client import Tracking, guarded, page_url

CHECKED = ">=3.17,<3.18"
TAG = "mlflow.sharedViewState."
_PACKED = "deflate;"  # the start of a compressed state
USED = (
    TAG,
    "viewStateShareKey",
    "compareRunsMode",
    _PACKED,
    "Invalid saved-view envelope",
    *("searchFilter", "orderByKey", "orderByAsc", "startTime", "lifecycleFilter", "modelVersionFilter"),
    *("selectedColumns", "compareRunCharts", "compareRunSections", "isAccordionReordered", "hideEmptyCharts"),
    *("metricSectionId", "selectedMetricKeys", "runsCountToCompare", "xAxisScaleType", "useGlobalXaxisKey"),
    *("Model metrics", "System metrics"),
)
"""Names in the JavaScript of MLflow's pages that the views rely on."""

MAX_TAG = 5000  # characters in a tag of an experiment
_RUNS_PER_CHART = 20
_SECTIONS = {"": "Model metrics", "system": "System metrics"}  # the pages' names for these starts of metrics


@dataclass(frozen=True)
class Chart:
    """A chart of the runs.

    Attributes:
        metrics: names of its metrics.
        is_line: a line over the steps of the metrics for each run; otherwise a bar for each run.
    """

    metrics: tuple[str, ...]
    is_line: bool = False

    def state(self, section: str, number: int) -> dict[str, Any]:
        """The chart as MLflow's pages save it.

        Args:
            section: ID of its section.
            number: its place in the section.
        """
        values: dict[str, Any] = {
            "uuid": f"{section}-{number}",
            "type": "LINE" if self.is_line else "BAR",
            "runsCountToCompare": _RUNS_PER_CHART,
            "metricSectionId": section,
            "deleted": False,
            "isGenerated": False,
            "metricKey": self.metrics[0],
            "selectedMetricKeys": list(self.metrics),
        }
        if self.is_line:
            values |= {"lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {}}
            values |= {"xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": []}
            values |= {"ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
        return values


@dataclass(frozen=True)
class View:
    """A saved view.

    Attributes:
        key: its key in the address.
        name: its name in the menu.
        runs: MLflow's search expression for the runs.
        sections: title of a section -> its charts, in this order.
        columns: metrics that the table of runs shows.
        order_by: the key by which runs are sorted, such as `attributes.start_time`.
        is_ascending: whether they are sorted in ascending order.
        other_metrics: all other metrics of the runs. The pages put their charts below, in closed sections.
    """

    key: str
    name: str
    runs: str
    sections: Mapping[str, tuple[Chart, ...]]
    columns: tuple[str, ...]
    order_by: str
    is_ascending: bool
    other_metrics: Collection[str] = ()

    @property
    def tag(self) -> str:
        """The tag of the experiment that has the view."""
        return f"{TAG}{self.key}"

    def state(self) -> dict[str, Any]:
        """The view as MLflow's pages restore it."""
        titles = [*self.sections, *self._closed()]
        sections = [
            {"uuid": str(number), "name": title, "display": title in self.sections, "isReordered": True}
            for number, title in enumerate(titles)
        ]
        charts = [
            chart.state(str(number), place)
            for number, charts in enumerate(self.sections.values())
            for place, chart in enumerate(charts)
        ]
        return {
            "searchFilter": self.runs,
            "orderByKey": self.order_by,
            "orderByAsc": self.is_ascending,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": [metric_key(name) for name in self.columns],
            "compareRunCharts": charts,
            "compareRunSections": sections,
            "isAccordionReordered": True,
            "hideEmptyCharts": True,
        }

    def packed_state(self) -> str:
        """The state as the tag has it."""
        text = json.dumps(self.state(), separators=(",", ":")).encode("utf-8")
        return f"{_PACKED}{base64.b64encode(zlib.compress(text, 9)).decode('ascii')}"

    def _closed(self) -> list[str]:
        starts = {name.rpartition("/")[0] for name in self.other_metrics}
        titles = {_SECTIONS.get(start, start) for start in starts}
        return sorted(titles - self.sections.keys(), key=lambda title: (title not in _SECTIONS.values(), title))


def metric_key(name: str) -> str:
    """A metric as a column or a key to sort by.

    >>> metric_key("label_accuracy")
    'metrics.`label_accuracy`'
    """
    return f"metrics.`{name}`"


def runs_with_ids(run_ids: Iterable[str]) -> str:
    """MLflow's search expression for these runs."""
    return f"attributes.run_id IN ({','.join(repr(run_id) for run_id in run_ids)})"


def view_path(experiment_id: str, key: str) -> str:
    """The address of a view, with its charts, after the address of the server and a slash; also a link in its pages."""
    return f"{page_url('', experiment_id)[1:]}&compareRunsMode=CHART&viewStateShareKey={key}"


def save_views(tracking: Tracking, views: Iterable[View]) -> None:
    """Saves views in the experiment. Those that did not change are not written again.

    Raises:
        TrackingError: MLflow cannot be reached, or a view is too large for it.
    """
    with guarded():
        tags = tracking.client.get_experiment(tracking.experiment_id).tags
        for view in views:
            saved, state, now = _saved(tags.get(view.tag)), view.packed_state(), time.time_ns() // 1_000_000
            if saved.get("state") == state:
                continue
            value = {"name": view.name, "createdAt": saved.get("createdAt", now), "updatedAt": now, "state": state}
            tracking.client.set_experiment_tag(tracking.experiment_id, view.tag, json.dumps(value))


def _saved(value: str | None) -> dict[str, Any]:
    """What the pages or a former run saved; empty without a view, or if it is damaged and has to be written again."""
    try:
        saved = parse_json(value or "{}", "the saved view")
    except ArtifactError:
        return {}
    return saved if isinstance(saved, dict) else {}
