"""The saved views of MLflow's runs page that this project keeps: its compositions, its tasks, and its runs over time.

Each run of the pipeline, `cclm promote` and `cclm ui` bring them up to date.
"""

from collections.abc import Collection, Iterator, Mapping

from cclm_core.evaluation.metrics import Metric, read_metrics
from cclm_core.runtime.artifacts import folder_digest
from flows.gate.lineage import newest_run
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import Plan
from flows.tracking.chart_views import Chart, View, metric_key, runs_with_ids, save_views, view_path
from flows.tracking.client import Tracking, guarded

COMPOSITIONS, TASKS, RUNS = "cclm-compositions", "cclm-tasks", "cclm-runs"
NAMES = {COMPOSITIONS: "Compare compositions", TASKS: "Compare tasks", RUNS: "Results over time"}
"""Keys of the views -> their names."""

MAX_MODELS = 20  # with more, the view does not fit into a tag
_NOISE_CURVE, _NOISY = "noise_curve/", "_noise_"  # in names of metrics
_DIRECTIONS = {"lower": "Smaller is better", "higher": "Larger is better"}


def save_comparison_views(tracking: Tracking, plan: Plan) -> dict[str, str]:
    """Saves the views of everything that was measured and tracked.

    Returns:
        The name of each view and its address after the address of MLflow and a slash.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    measured = evaluations(plan, tracking.project)
    views = [
        *_model_views(tracking, COMPOSITIONS, [evaluation for evaluation in measured if not evaluation.is_task]),
        *_model_views(tracking, TASKS, [evaluation for evaluation in measured if evaluation.is_task]),
    ]
    if views:
        views.append(_runs_view(measured))
    save_views(tracking, views)
    return {view.name: view_path(tracking.experiment_id, view.key) for view in views}


def _model_views(tracking: Tracking, key: str, measured: list[Evaluation]) -> Iterator[View]:
    """The view of the newest evaluation of each model; nothing if none was tracked."""
    run_ids: list[str] = []
    figures: dict[str, Metric] = {}
    logged: set[str] = set()
    for evaluation in measured[:MAX_MODELS]:
        path = evaluation.results.relative_to(tracking.project.root).as_posix()
        run = newest_run(tracking, path, folder_digest(evaluation.results))
        if run is None:
            continue
        run_ids.append(run.id)
        metrics = read_metrics(evaluation.results)
        # The first model with a metric gives its baselines: all models are measured on the same texts.
        figures |= {name: metric for name, metric in _headlines(metrics).items() if name not in figures}
        with guarded():
            logged |= set(tracking.client.get_run(run.id).data.metrics)
    if not run_ids or not figures:
        return
    sections = _score_sections(figures) | _noise_section(figures, logged) | _baseline_section(figures, logged)
    shown = {name for charts in sections.values() for chart in charts for name in chart.metrics}
    first, metric = next(iter(figures.items()))
    yield View(
        key=key,
        name=NAMES[key],
        runs=runs_with_ids(run_ids),
        sections=sections,
        columns=tuple(figures),
        order_by=metric_key(first),
        is_ascending=metric.better == "lower",
        other_metrics=logged - shown,
    )


def _runs_view(measured: list[Evaluation]) -> View:
    """The view of the pipeline's runs: a section per main metric, a chart per model, a bar per run."""
    sections: dict[str, tuple[Chart, ...]] = {}
    noisy = []
    for evaluation in measured[:MAX_MODELS]:
        for name, metric in _headlines(read_metrics(evaluation.results)).items():
            if _NOISY in name:
                noisy.append(f"{evaluation.name}/{name}")
                continue
            title = f"{name}, {_DIRECTIONS[metric.better or 'higher'].lower()}"
            sections[title] = (*sections.get(title, ()), Chart((f"{evaluation.name}/{name}",)))
    return View(
        key=RUNS,
        name=NAMES[RUNS],
        runs="tags.`cclm.kind` = 'pipeline'",
        sections=sections,
        columns=tuple(chart.metrics[0] for charts in sections.values() for chart in charts),
        order_by="attributes.start_time",
        is_ascending=False,
        other_metrics=noisy,
    )


def _headlines(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if metric.headline and metric.better}


def _score_sections(figures: Mapping[str, Metric]) -> dict[str, tuple[Chart, ...]]:
    """The main metrics without noise, by direction."""
    names = [name for name in figures if _NOISY not in name]
    sections = {
        title: [name for name in names if figures[name].better == better] for better, title in _DIRECTIONS.items()
    }
    return {title: tuple(Chart((name,)) for name in names) for title, names in sections.items() if names}


def _noise_section(figures: Mapping[str, Metric], logged: Collection[str]) -> dict[str, tuple[Chart, ...]]:
    """The curves over noise rates that have a main metric, each with that of its first baseline."""
    charts = []
    for curve in sorted(name for name in logged if name.startswith(_NOISE_CURVE)):
        name = curve.removeprefix(_NOISE_CURVE)
        metric = next((metric for other, metric in figures.items() if other.startswith(name)), None)
        if metric is not None:
            lines = [curve, *(f"{curve}_{baseline.name}" for baseline in metric.baselines[:1])]
            charts.append(Chart(tuple(line for line in lines if line in logged), is_line=True))
    return {"By noise rate x 1,000; dashed: baseline": tuple(charts)} if charts else {}


def _baseline_section(figures: Mapping[str, Metric], logged: Collection[str]) -> dict[str, tuple[Chart, ...]]:
    """The first baseline of each main metric without noise."""
    names = [
        f"{name}_{baseline.name}"
        for name, metric in figures.items()
        if _NOISY not in name
        for baseline in metric.baselines[:1]
    ]
    charts = tuple(Chart((name,)) for name in names if name in logged)
    return {"Baselines, equal for all runs": charts} if charts else {}
