"""The commands `cclm add` and `cclm remove`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cclm_core.cli.conventions import examples
from flows.environment import enter_project

add = typer.Typer(help="Add a component, composition or task to params.yaml, comments kept.", no_args_is_help=True)
remove = typer.Typer(help="Remove a component, composition or task from params.yaml.", no_args_is_help=True)

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
    names = [part.strip() for part in parts.split(",") if part.strip()] if parts is not None else None
    _add("composition", name, {"parts": names, "fusion": fusion and {"kind": fusion}}, like, setting, as_json)


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
