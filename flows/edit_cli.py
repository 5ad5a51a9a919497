"""The commands `cclm add` and `cclm remove`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from cclm_core.cli.conventions import examples
from cclm_core.cli.data_options import (
    Encoding,
    GroupColumn,
    Header,
    LabelColumns,
    PairText,
    TableText,
    TagColumn,
    TagNames,
    TestFiles,
    ValidationFiles,
)
from flows import environment
from flows.environment import enter_project
from flows.project import Project

add = typer.Typer(help="Add a component, task, labeled data, ... to params.yaml, comments kept.", no_args_is_help=True)
remove = typer.Typer(help="Remove a component, task, labeled data, ... from params.yaml.", no_args_is_help=True)

Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A key of its entry and the value in YAML, e.g. training.steps=500. Repeatable.",
    ),
]
Like = Annotated[
    str | None, typer.Option(help="Copy the other keys of this one, e.g. its training (default: the defaults).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NewName = Annotated[str, typer.Argument(help="The new name: letters, digits, _ and -.")]
OldName = Annotated[str, typer.Argument(help="Its name in params.yaml.")]


@add.command(
    "component",
    epilog=examples("cclm add component typos --objective detect --like characters --set training.steps=500"),
)
def add_component(
    name: NewName,
    objective: Annotated[
        str | None, typer.Option(help="What it learns, e.g. characters; docs/objectives.md lists them.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Kind of its encoder, e.g. convolution; docs/encoders.md lists them.")
    ] = None,
    like: Like = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Add a component: an encoder that is trained over the frozen base on an objective of its own."""
    given = {"task": objective and {"objective": objective}, "encoder": encoder and {"kind": encoder}}
    _add("component", name, given, like, setting, as_json)


@add.command("composition", epilog=examples("cclm add composition pair --parts entities,characters"))
def add_composition(
    name: NewName,
    parts: Annotated[
        str | None, typer.Option(help="Components in the order of their features, e.g. entities,characters.")
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(help="How their features are joined, e.g. attention; docs/composition.md lists them.")
    ] = None,
    like: Like = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Add a composition of components that exist. Nothing is trained again."""
    _add("composition", name, {"parts": _names(parts), "fusion": fusion and {"kind": fusion}}, like, setting, as_json)


@add.command("task", epilog=examples("cclm add task topics --data tickets --composition full --set training.epochs=3"))
def add_task(
    name: NewName,
    data: Annotated[str | None, typer.Option(help="Labeled data, a key of `labeled` in params.yaml.")] = None,
    composition: Annotated[
        str | None, typer.Option(help="The composition to start from (default: random weights).")
    ] = None,
    like: Like = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Add a task: a model that is fine-tuned on labeled data."""
    _add("task", name, {"data": data, "composition": composition}, like, setting, as_json)


@add.command(
    "ensemble",
    epilog=examples("cclm add ensemble tickets_all --parts tickets,tickets_scratch,tickets_ngrams"),
)
def add_ensemble(
    name: NewName,
    parts: Annotated[str | None, typer.Option(help="Tasks on the same data, e.g. tickets,tickets_ngrams.")] = None,
    like: Like = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Add an ensemble: tasks on the same data, joined into one model."""
    _add("ensemble", name, {"parts": _names(parts)}, like, setting, as_json)


@add.command(
    "labeled",
    epilog=examples(
        "cclm add labeled reviews reviews.csv --text body --label stars --task classify",
        "cclm add labeled entities train.conll --test test.conll",
    ),
)
def add_labeled(
    name: NewName,
    files: Annotated[
        list[str], typer.Argument(help="Files, folders or patterns: CSV, TSV, JSON lines, Parquet, CoNLL.")
    ],
    text: TableText = None,
    second: PairText = None,
    label: LabelColumns = None,
    tags: TagColumn = None,
    group: GroupColumn = None,
    task: Annotated[
        Literal["classify", "multilabel", "regress", "tag", "pairs"] | None,
        typer.Option(help="Kind of task (default: recognized)."),
    ] = None,
    test: TestFiles = None,
    validation: ValidationFiles = None,
    tag_names: TagNames = None,
    encoding: Encoding = None,
    header: Header = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Add labeled data for a task. The files are copied to `input`, and their columns are recognized."""
    from cclm_core.cli.add_labeled import add_labeled as add_data
    from cclm_core.cli.init import InitOptions
    from cclm_core.survey.roles import Asked
    from flows.graph.params_file import parse_settings
    from flows.run.editing import add as add_entry

    options = InitOptions(
        asked=Asked(text=text, second=second, label=tuple(label or ()), tags=tags, group=group, task=task),
        test=test or (),
        validation=validation or (),
        tag_names=tag_names.split(",") if tag_names else (),
        encoding=encoding,
        has_header=header,
    )
    project, settings = Project.find(), parse_settings(setting or [])
    environment.apply(project)
    edit, lines = add_data(
        project.root, name, files, options, lambda entry: add_entry(project, "labeled", name, {**entry, **settings})
    )
    _print(replace(edit, changes=[*lines, *edit.changes]), as_json)


@remove.command("component", epilog=examples("cclm remove component typos"))
def remove_component(name: OldName, as_json: AsJson = False) -> None:
    """Remove a component that no composition uses. Its outputs are moved to .cclm/replaced."""
    _remove("component", name, as_json)


@remove.command("composition", epilog=examples("cclm remove composition pair"))
def remove_composition(name: OldName, as_json: AsJson = False) -> None:
    """Remove a composition that no task uses. Its outputs are moved to .cclm/replaced; registered versions stay."""
    _remove("composition", name, as_json)


@remove.command("task", epilog=examples("cclm remove task topics"))
def remove_task(name: OldName, as_json: AsJson = False) -> None:
    """Remove a task that no ensemble uses. Its outputs are moved to .cclm/replaced; registered versions stay."""
    _remove("task", name, as_json)


@remove.command("ensemble", epilog=examples("cclm remove ensemble tickets_all"))
def remove_ensemble(name: OldName, as_json: AsJson = False) -> None:
    """Remove an ensemble. Its outputs are moved to .cclm/replaced; its tasks and registered versions stay."""
    _remove("ensemble", name, as_json)


@remove.command("labeled", epilog=examples("cclm remove labeled reviews"))
def remove_labeled(name: OldName, as_json: AsJson = False) -> None:
    """Remove labeled data that no task uses. Its outputs are moved to .cclm/replaced; the files in input stay."""
    _remove("labeled", name, as_json)


def _names(listed: str | None) -> list[str] | None:
    """The names in a list with commas."""
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]


def _add(
    kind: str, name: str, given: Mapping[str, Any], like: str | None, setting: list[str] | None, as_json: bool
) -> None:
    from flows.graph.params_file import parse_settings
    from flows.run.editing import add as add_entry

    entry = {key: value for key, value in given.items() if value is not None} | parse_settings(setting or [])
    _print(add_entry(enter_project(), kind, name, entry, like), as_json)


def _remove(kind: str, name: str, as_json: bool) -> None:
    from flows.run.editing import remove as remove_entry

    _print(remove_entry(enter_project(), kind, name), as_json)


def _print(edit: Any, as_json: bool) -> None:
    print(json.dumps(edit.as_json(), indent=2) if as_json else edit)
