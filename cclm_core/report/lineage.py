"""What was made from what, as a table, and the commands that make it again."""

from collections.abc import Sequence

from markupsafe import Markup

from cclm_core.report.published import Collection, Model
from cclm_core.report.tables import Cell, Table, code, text_cell


def lineage_table(collection: Collection, everything: Collection | None = None) -> Table:
    """A row per folder: what it was made from, its seed and its digest.

    Args:
        collection: the folders to show.
        everything: the folders that they may have been made from (default: the same).
    """
    known = (everything or collection).by_digest
    rows = []
    for item in collection.folders:
        inputs = [
            f"{known[digest].path if digest in known else 'an earlier version'} ({key})" for key, digest in item.inputs
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


def commands(models: Sequence[Model]) -> list[tuple[str, str]]:
    """How to reproduce and use the results of some models: command and what it does."""
    listed = [
        ("cclm status", "shows whether everything is up to date"),
        ("cclm run", "makes everything again that is not; equal inputs give equal files"),
        ("dvc pull", "downloads the files of this run from the DVC remote instead"),
    ]
    names = [model.name for model in models]
    if len(names) == 1:
        listed[1] = (f"cclm run --target {models[0].results.stage}", "makes it again, and what it needs, if it is not")
        listed[2] = (f"dvc pull {models[0].model.path}", "downloads its files from the DVC remote instead")
    if len(names) > 1:
        listed.append((f"cclm compare {names[0]} {names[1]}", "compares two models, with their speed"))
    if names:
        listed.append((f"cclm lineage {names[0]}", "shows the inputs, the code and the runs that made it"))
    if task := next((model for model in models if model.is_task), None):
        listed.append((f"cclm predict {task.model.path} texts.csv --text text", "labels your texts"))
    elif len(names) == 1:
        listed.append((f"cclm embed {models[0].model.path} texts.csv", "gives vectors of your texts"))
    return listed
