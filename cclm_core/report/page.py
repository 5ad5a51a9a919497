"""The report: the page that compares all models, and a page for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report.data import data_sections, vocabulary_section
from cclm_core.report.findings import Ranking, advice, rank
from cclm_core.report.lineage import commands, lineage_table
from cclm_core.report.maps import text_map
from cclm_core.report.mistakes import mistakes
from cclm_core.report.model_page import model_page
from cclm_core.report.pipeline import boxes, graph
from cclm_core.report.published import Collection, Model
from cclm_core.report.rendering import rendered
from cclm_core.report.scores import (
    all_metrics,
    comparison,
    comparison_charts,
    contribution_charts,
    learning_charts,
    model_legend,
    noise_charts,
    slices_table,
)
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.reporting import Report


@dataclass(frozen=True)
class Page:
    """The page, and its answer for other places.

    Attributes:
        html: the page.
        answer: `lines` about what is better, and `next`, what to do next.
        pages: file -> the page of one composition, task or ensemble.
    """

    html: str
    answer: dict[str, list[str]]
    pages: dict[str, str]


def render(collection: Collection, rules: PromotionConfig, report: Report) -> Page:
    """Makes the pages. Equal folders give equal bytes.

    Args:
        collection: the published folders.
        rules: section `promotion` of params.yaml, for the margins.
        report: receives the number of finished maps.
    """
    compositions, tasks = collection.models("composition"), collection.models("task")
    models = [*compositions, *tasks]
    maps = {}
    for number, model in enumerate(models, 1):
        maps[model.page] = text_map(model, collection)
        report(number, {}, len(models))
    vocabulary = vocabulary_section(collection)
    ranking = rank(compositions, rules)
    groups = same_texts(tasks)
    rankings = [entry for entry in (rank(group, rules) for group in groups) if entry]
    next_steps = advice(collection, ranking, rankings, rules, vocabulary.fallback_share if vocabulary else 0.0)
    stages = boxes(collection)
    shown = [entry.best for entry in [*([ranking] if ranking else []), *rankings]]
    html = rendered(
        "page.html",
        title=title_of(ranking, rankings),
        ranking=ranking,
        rankings=rankings,
        next_steps=next_steps,
        warnings=_warnings(models),
        stages=stages,
        graph=graph(stages),
        data=data_sections(collection),
        vocabulary=vocabulary,
        learning=learning_charts(collection),
        compositions=_section(compositions),
        tasks=[_section(group) for group in groups],
        contributions=contribution_charts(compositions),
        pages=models,
        others=[model for model in models if model not in shown],
        slices=[(model.name, table) for model in shown if (table := slices_table(model))],
        mistakes=[mistakes(model) for model in shown if not model.is_untrained],
        maps=[entry for model in shown if (entry := maps[model.page])],
        lineage=lineage_table(collection),
        commands=commands(models),
    )
    lines = [line for entry in [*([ranking] if ranking else []), *rankings] for line in entry.answer]
    pages = {model.page: model_page(model, models, collection, maps[model.page]) for model in models}
    return Page(html, {"lines": lines, "next": next_steps}, pages)


def same_texts(tasks: Sequence[Model]) -> list[list[Model]]:
    """The tasks in groups that are measured on the same texts."""
    groups: dict[str, list[Model]] = {}
    for task in tasks:
        key = canonical_json([task.results.card.get("labeled"), task.results.card.get("texts")])
        groups.setdefault(key, []).append(task)
    return list(groups.values())


def title_of(compositions: Ranking | None, tasks: Sequence[Ranking]) -> str:
    """The title of the page: what it compares.

    >>> title_of(None, [])
    'CCLM report'
    """
    names = [model.name for entry in [*([compositions] if compositions else []), *tasks] for model in entry.models]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"CCLM report: {shown}" if names else "CCLM report"


def _section(models: Sequence[Model]) -> dict[str, Any] | None:
    if not models:
        return None
    return {
        "names": [model.name for model in models],
        "table": comparison(models),
        "charts": comparison_charts(models),
        "noise": noise_charts(models),
        "all": all_metrics(models),
        "legend": model_legend(models),
    }


def _warnings(models: Sequence[Model]) -> list[str]:
    """The warnings of all models, each once."""
    names: dict[str, list[str]] = {}
    for model in models:
        for warning in model.warnings:
            names.setdefault(warning, []).append(model.name)
    return [f"{', '.join(listed)}: {warning}" for warning, listed in names.items()]
