"""The page: all sections, rendered with page.html, page.css and page.js into one file that loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report import FACTS_PLACE
from cclm_core.report.data import data_sections, vocabulary_section
from cclm_core.report.findings import Ranking, advice, rank
from cclm_core.report.maps import author_map, text_map
from cclm_core.report.mistakes import mistakes
from cclm_core.report.pipeline import boxes, graph
from cclm_core.report.published import Collection, Model
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
from cclm_core.report.tables import Cell, Table, code, text_cell
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.reporting import Report


@dataclass(frozen=True)
class Page:
    """The page, and its answer for other places.

    Attributes:
        html: the page.
        answer: `lines` about what is better, and `next`, what to do next.
    """

    html: str
    answer: dict[str, list[str]]


def render(collection: Collection, rules: PromotionConfig, report: Report) -> Page:
    """Makes the page. Equal folders give equal bytes.

    Args:
        collection: the published folders.
        rules: section `promotion` of params.yaml, for the margins.
        report: receives the number of finished maps.
    """
    compositions, tasks = collection.models("composition"), collection.models("task")
    models = [*compositions, *tasks]
    maps = []
    for number, model in enumerate(models, 1):
        maps.append(text_map(model, collection))
        report(number, {}, len(models))
    vocabulary = vocabulary_section(collection)
    ranking = rank(compositions, rules)
    groups = same_texts(tasks)
    rankings = [entry for entry in (rank(group, rules) for group in groups) if entry]
    next_steps = advice(collection, ranking, rankings, rules, vocabulary.fallback_share if vocabulary else 0.0)
    stages = boxes(collection)
    package = files("cclm_core.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((package / "page.html").read_text(encoding="utf-8"))
    html = template.render(
        style=Markup((package / "page.css").read_text(encoding="utf-8")),
        script=Markup((package / "page.js").read_text(encoding="utf-8")),
        facts=Markup(FACTS_PLACE),
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
        slices=[(model.name, table) for model in tasks if (table := slices_table(model))],
        mistakes=[mistakes(model) for model in models if not model.is_untrained],
        maps=[entry for entry in maps if entry],
        author_maps=[entry for model in compositions if (entry := author_map(model, collection))],
        lineage=_lineage(collection),
        commands=_commands(models),
    )
    lines = [line for entry in [*([ranking] if ranking else []), *rankings] for line in entry.answer]
    return Page(html, {"lines": lines, "next": next_steps})


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
    """What makes figures less reliable than they look, each warning once."""
    warnings: dict[str, list[str]] = {}
    for model in models:
        entries = [str(entry) for entry in model.results.card.get("warnings") or ()]
        skipped = model.results.card.get("skipped") or {}
        entries += [f"not measured: {name} ({reason})" for name, reason in skipped.items()]
        for entry in entries:
            warnings.setdefault(entry, []).append(model.name)
    return [f"{', '.join(names)}: {warning}" for warning, names in warnings.items()]


def _lineage(collection: Collection) -> Table:
    rows = []
    for item in collection.folders:
        inputs = [
            f"{collection.by_digest[digest].path if digest in collection.by_digest else 'an earlier version'} ({key})"
            for key, digest in item.inputs
        ]
        code_digest = str(item.card.get("code", ""))
        digests = Markup("<details><summary>{}</summary>{}{}</details>").format(
            item.digest[:8], code(item.digest), Markup("<br>code {}").format(code(code_digest)) if code_digest else ""
        )
        seed = str(item.card.get("seed", ""))
        rows.append(
            [text_cell(item.path), text_cell(item.stage), text_cell("\n".join(inputs)), text_cell(seed), Cell(digests)]
        )
    return Table(("folder", "made by", "made from", "seed", "digest"), rows)


def _commands(models: Sequence[Model]) -> list[tuple[str, str]]:
    """How to reproduce and use the results: command and what it does."""
    commands = [
        ("cclm status", "shows whether everything is up to date"),
        ("cclm run", "makes everything again that is not; equal inputs give equal files"),
        ("dvc pull", "downloads the files of this run from the DVC remote instead"),
    ]
    names = [model.name for model in models]
    if len(names) > 1:
        commands.append((f"cclm compare {names[0]} {names[1]}", "compares two models, with their speed"))
    if names:
        commands.append((f"cclm lineage {names[0]}", "shows the inputs, the code and the runs that made it"))
    if task := next((model for model in models if model.is_task), None):
        commands.append((f"cclm predict {task.model.path} texts.csv --text text", "labels your texts"))
    return commands
