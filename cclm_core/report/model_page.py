"""The page of one composition, task or ensemble: its scores, its mistakes, its parts, how to make it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from cclm_core.report import FILE
from cclm_core.report.choices import best_part_table, choices_table
from cclm_core.report.findings import summary
from cclm_core.report.lineage import commands, lineage_table
from cclm_core.report.maps import TextMap
from cclm_core.report.mistakes import mistakes
from cclm_core.report.pipeline import boxes, graph
from cclm_core.report.published import Collection, Model, Published
from cclm_core.report.rendering import rendered
from cclm_core.report.scores import (
    all_metrics,
    comparison_charts,
    contribution_charts,
    entities_table,
    learning_charts,
    model_cell,
    noise_charts,
    own_scores,
    part_charts,
    slices_table,
)
from cclm_core.report.tables import Cell, Table, number_cell, text_cell

_MODEL_KINDS = ("embedder", "component", "composition", "task")
_NOTES = {
    "composition": (
        "How much worse the metric is without the component. An interval that contains 0: no clear contribution; "
        "exactly 0: the probe does not read the component, because it was not clearly better with it on held-out text."
    ),
    "ensemble": "How much better the ensemble is than the part alone, on the same texts.",
}


def model_page(
    model: Model,
    models: Sequence[Model],
    collection: Collection,
    text_map: TextMap | None,
    author_map: TextMap | None = None,
) -> str:
    """The page of one model. Equal folders give equal bytes.

    Args:
        model: the model with its results.
        models: all models that have pages, for links.
        collection: the published folders.
        text_map: the map of its test texts, if it has one.
        author_map: the map of their authors, if it has one.
    """
    own = collection.ancestry(model.model, model.results)
    up = "../" * model.page.count("/")
    return rendered(
        "page.model.html",
        title=f"{model.kind.capitalize()} {model.name}",
        report=f"{up}{FILE}",
        summary=summary(model),
        warnings=model.warnings,
        outdated=sorted({*collection.outdated(model.model), *collection.outdated(model.results)}),
        parts=parts_table(model, models, collection, up),
        graph=graph(boxes(own)),
        scores=own_scores(model),
        score_charts=comparison_charts([model]),
        slices=slices_table(model),
        entities=entities_table(model),
        all=all_metrics([model]),
        noise=noise_charts([model]),
        contributions=contribution_charts([model]) or part_charts(model),
        choices=choices_table(model),
        best_part=best_part_table(model),
        contribution_note=_NOTES.get(model.kind, ""),
        mistakes=mistakes(model),
        map=text_map,
        authors=author_map,
        learning=learning_charts(own),
        lineage=lineage_table(own, collection),
        commands=commands([model]),
    )


def parts_table(model: Model, models: Sequence[Model], collection: Collection, up: str) -> Table:
    """What a model consists of: the model, then all models that it was made from.

    Args:
        model: the model.
        models: all models that have pages.
        collection: the published folders.
        up: from its page to the report's folder, e.g. `../`.
    """
    pages = {other.model.path: other for other in models if other is not model}
    ancestors = [item for item in collection.ancestry(model.model).folders if item.kind in _MODEL_KINDS]
    rows = []
    for item in [model.model, *(item for item in ancestors if item is not model.model)]:
        name = model_cell(pages[item.path], up) if item.path in pages else text_cell(item.name)
        steps = item.table("curve.csv")
        rows.append(
            [
                name,
                text_cell(item.stage),
                text_cell(_purpose(item)),
                text_cell(_encoder(item)),
                number_cell(float(steps[-1]["step"])) if steps else Cell(""),
                number_cell(float(item.values.get("parameters") or 0)),
                Cell(f"{item.megabytes:.1f} MB", item.megabytes),
            ]
        )
    return Table(("", "made by", "what it learns or joins", "encoder", "steps", "parameters", "size"), rows)


def _purpose(item: Published) -> str:
    """What a model has learned, or what it joins, from its card."""
    configuration = item.configuration
    if item.kind == "embedder":
        objectives = [entry.get("task", {}) for entry in configuration.get("objectives", [])]
        return ", ".join(str(task.get("objective", "")) for task in objectives)
    if item.kind == "component":
        return str(configuration.get("task", {}).get("objective", ""))
    if "parts" in configuration:
        parts = ", ".join(configuration["parts"])
        fusion = configuration.get("fusion")
        kind = fusion.get("kind", "") if isinstance(fusion, Mapping) else fusion or ""
        return f"{parts}{f' ({kind})' if kind else ''}"
    start = configuration.get("composition")
    return f"{configuration.get('data', '')}, {f'from {start}' if start else 'from random weights'}"


def _encoder(item: Published) -> str:
    """The kind and the width of the encoder of a model; "" if it has none of its own."""
    configuration: Mapping[str, Any] = item.configuration
    embedder = configuration.get("embedder") or {}
    encoder = configuration.get("encoder") or embedder.get("encoder") or {}
    width = f", width {encoder['width']}" if "width" in encoder else ""
    return f"{encoder['kind']}{width}" if "kind" in encoder else ""
