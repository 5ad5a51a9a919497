"""`cclm config`: the complete configuration, differences between two, and a commented params.yaml to start from."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import yaml
from pydantic import BaseModel

from cclm_core.cli import completion
from cclm_core.cli.columns import print_columns
from cclm_core.cli.conventions import examples
from cclm_core.cli.keys import complete, meanings
from cclm_core.cli.reference import page, schema
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.config import canonical_json, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_write
from cclm_core.runtime.terminal import printed
from cclm_core.steps.params import NAMED, SECTIONS, Params, class_of

app = typer.Typer(
    help="Show, compare and create configurations. docs/params.md explains each key.", no_args_is_help=True
)

CARD = "card.json"
STAGES = {"base": "base", "pretrain": "components", "compose": "compositions", "finetune": "tasks"}
"""Stage, in the card of a result -> its section of params.yaml."""

TEMPLATE: dict[str, Any] = {
    "seed": 1,
    "code": [],
    "ingest": {"source": {"kind": "files", "paths": ["input"]}, "validation_share": 0.1, "test_share": 0.1},
    "labeled": {},
    "vocabulary": {},
    "noise": {},
    "training_noise": {},
    "base": {},
    "components": {
        "masked_characters": {"task": {"objective": "masked_characters"}},
        "characters": {"task": {"objective": "characters"}},
    },
    "compositions": {"full": {"parts": ["masked_characters", "characters"]}},
    "evaluation": {},
    "tasks": {},
    "promotion": {"metrics": {"bits_per_masked_character": {"margin": 0.05}}},
}
"""What `cclm config init` completes: texts in input/, two components, one composition."""

ParamsFile = Annotated[Path, typer.Option("--params", help="YAML file with the parameters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_DERIVED = ("learning_rate",)
"""Keys whose default depends on other keys: `cclm config init` writes them as comments."""


class Difference(NamedTuple):
    """A key with two values; None where it is missing."""

    key: str
    first: Any
    second: Any


@app.command("show", epilog=examples("cclm config show base.training", "cclm config show --json"))
def show_command(
    key: Annotated[
        str,
        typer.Argument(
            help="Only this part, e.g. base.training (default: everything).", autocompletion=completion.keys
        ),
    ] = "",
    params: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Print the complete configuration, with every default."""
    values: Any = resolved(Params.load(params))
    for part in filter(None, key.split(".")):
        known = values if isinstance(values, dict) else dict(enumerate(values)) if isinstance(values, list) else {}
        names = {str(name): value for name, value in known.items()}
        if part not in names:
            raise ConfigError(f"{params}: {key} not found at {part!r}; {nearest(part, list(names))}")
        values = names[part]
    print(printed(canonical_json(values) if as_json else as_yaml(values)), end="\n" if as_json else "")


@app.command(
    "diff",
    epilog=examples("cclm config diff params.yaml models/base", "cclm config diff params.yaml recipes/base-small.yaml"),
)
def diff_command(
    first: Annotated[Path, typer.Argument(help="A params.yaml, or the folder of a result such as models/base.")],
    second: Annotated[Path, typer.Argument(help="What to compare it with, in the same form.")],
    as_json: AsJson = False,
) -> None:
    """Print the keys whose values differ, defaults included.

    With one params.yaml and one result: what changed since the result was trained.
    """
    rows = differences(first, second)
    if as_json:
        print(canonical_json([row._asdict() for row in rows]))
    elif rows:
        print_columns(
            [("key", str(first), str(second)), *((row.key, _cell(row.first), _cell(row.second)) for row in rows)]
        )
    else:
        print(f"{first} and {second} have equal values.")


@app.command("init", epilog=examples("cclm config init every-key.yaml"))
def init_command(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a params.yaml with every key, its default and its meaning.

    It trains on the texts in input/. `cclm init FILES` writes a short one for your own data.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out} exists already. Choose another name, or pass --force to replace it.")
    atomic_write(out, commented(Params(TEMPLATE, str(out))))
    print(f"{out}: every key with its default. Put your texts into input/, then `cclm run`.")


@app.command("reference", epilog=examples("cclm config reference", "cclm config reference --json > params.schema.json"))
def reference_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON schema, without the short forms of values.")
    ] = False,
) -> None:
    """Print every key of params.yaml with its type, default, allowed values and meaning, as Markdown."""
    print(json.dumps(schema(), indent=2) if as_json else page(), end="\n" if as_json else "")


def resolved(params: Params) -> dict[str, Any]:
    """The complete configuration as plain values, every default included, as nested mappings.

    Raises:
        ConfigError: a section is invalid.
    """
    return {key: complete(value) for key, value in _sections(params).items()}


def differences(first: Path, second: Path) -> list[Difference]:
    """The keys of two parameter files or results whose values differ, sorted.

    Raises:
        CclmError: one of them cannot be read, or they cannot be compared.
    """
    sides = [_side(first), _side(second)]
    cards = [side for side in sides if not isinstance(side, Params)]
    if len(cards) == 2:
        values = [_completed(card) for card in cards]
    elif cards:
        values = [_section_like(side, cards[0]) if isinstance(side, Params) else _completed(side) for side in sides]
    else:
        values = [resolved(side) for side in sides if isinstance(side, Params)]
    flat = [dict(_flat(value)) for value in values]
    return [
        Difference(key, flat[0].get(key), flat[1].get(key))
        for key in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(key) != flat[1].get(key) or (key in flat[0]) != (key in flat[1])
    ]


def as_yaml(values: Any) -> str:
    """YAML in the order of the keys."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def commented(params: Params) -> str:
    """The complete configuration as YAML, with the meaning of each key above it."""
    lines = ["# Every key with its default. Keys that you remove keep the default.", ""]
    for key, value in _sections(params).items():
        lines += [*_entry(key, value, "", 0), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _sections(params: Params) -> dict[str, Any]:
    """Section -> its validated configuration, in the order of `SECTIONS`."""
    sections: dict[str, Any] = {"seed": params.seed, "code": [code.path for code in params.code]}
    for key in SECTIONS:
        config = class_of(key)
        named = key in NAMED
        sections[key] = (
            {name: params.named(config, name) for name in params.names(config)} if named else params.section(config)
        )
    return sections


def _entry(key: str, value: Any, meaning: str, depth: int) -> Iterator[str]:
    """The lines of a key: its meaning as comments, then its value."""
    indent = "  " * depth
    for line in textwrap.wrap(meaning, 118 - len(indent)):
        yield f"{indent}# {line}"
    if isinstance(value, BaseModel) and type(value).model_fields:
        yield f"{indent}{key}:"
        known = meanings(type(value))
        for name in type(value).model_fields:
            yield from _entry(name, getattr(value, name), known.get(name, ""), depth + 1)
    elif isinstance(value, Mapping) and any(isinstance(part, BaseModel) for part in value.values()):
        yield f"{indent}{key}:"
        for name, part in value.items():
            yield from _entry(str(name), part, "", depth + 1)
    elif isinstance(value, list | tuple) and any(isinstance(part, BaseModel) for part in value):
        yield f"{indent}{key}:"
        for part in value:
            yield f"{indent}  -"
            known = meanings(type(part))
            for name in type(part).model_fields:
                yield from _entry(name, getattr(part, name), known.get(name, ""), depth + 2)
    else:
        plain = yaml.safe_dump(complete(value), default_flow_style=True, allow_unicode=True, width=10_000)
        derived = "# " if key in _DERIVED else ""
        yield f"{indent}{derived}{key}: {plain.removesuffix('...' + chr(10)).strip()}"


def _side(path: Path) -> Params | dict[str, Any]:
    if path.is_dir():
        if not (path / CARD).is_file():
            raise ConfigError(f"{CARD} not found in {path}. Pass the folder of a trained model, or a params.yaml.")
        return read_json(path / CARD)
    return Params.load(path)


def _completed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with its configuration completed by defaults, if this version of the library can read it."""
    section = STAGES.get(str(card.get("stage")))
    if section is None or not isinstance(card.get("configuration"), dict):
        return dict(card)
    return {**card, "configuration": complete(class_of(section).parse(card["configuration"], f"{CARD}: configuration"))}


def _section_like(params: Params, card: Mapping[str, Any]) -> dict[str, Any]:
    """What of the parameters the card of a result has: its seed and its section. Other keys are those of the card."""
    section = STAGES.get(str(card.get("stage")))
    if section is None:
        raise ConfigError(
            f"a result of the stage {card.get('stage')!s:.40} has no section in {params.source}. Compare it with "
            f"another result; the stages with a section are {', '.join(STAGES)}."
        )
    config = class_of(section)
    own = params.named(config, str(card.get("name"))) if section in NAMED else params.section(config)
    return {**card, "seed": params.seed, "configuration": complete(own)}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value):
            yield from _flat(part, f"{key}.{number}")
    else:
        yield key, value


def _cell(value: Any) -> str:
    text = "-" if value is None else canonical_json(value)
    return printed(text if len(text) <= 60 else f"{text[:57]}...")
