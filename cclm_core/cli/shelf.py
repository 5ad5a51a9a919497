"""`cclm shelf`: publish, fetch, list and show from the command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.shelf import About, Shelf
from cclm_core.shelf.names import ITEM_TYPES
from cclm_core.shelf.shelf import CACHE, VARIABLE

DIGITS = 12  # of a digest, where people read it

app = typer.Typer(
    help="Share preprocessors, embedders, components and compositions, and build on those of others. A shelf is a git "
    "repository whose large files are stored by DVC. Everything is verified before it is opened.",
    no_args_is_help=True,
)

Repository = Annotated[
    str | None, typer.Option("--repo", envvar=VARIABLE, help="The shelf: a folder, or an address (https, ssh, file).")
]
Identifier = Annotated[str, typer.Argument(help="The item's name on the shelf, e.g. en_plays_1.")]
ItemType = Annotated[str, typer.Argument(help=f"Its type: {', '.join(ITEM_TYPES)}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.command()
def create(
    path: Annotated[Path, typer.Argument(help="Its folder, which must not exist or be empty.")],
    remote: Annotated[str, typer.Option(help="Where the items' files go: a folder, or e.g. s3://<bucket>/<folder>.")],
) -> None:
    """Make an empty shelf. To share it, push it to where others can read it, and make its storage readable too."""
    print(f"Made an empty shelf in {Shelf.create(path, remote).repository}.")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="What a stage published or `save` wrote, e.g. models/base.")],
    identifier: Identifier,
    item_type: ItemType,
    licence: Annotated[str, typer.Option(help="License of the item, e.g. Apache-2.0.")],
    repo: Repository = None,
    tag: Annotated[str | None, typer.Option(help="A new tag to fetch it by, e.g. v0.2.1. Tags never move.")] = None,
    description: Annotated[str, typer.Option(help="What it is, in one line.")] = "",
    scores: Annotated[
        Path | None, typer.Option(help="A JSON file with metrics, added to those in its metrics.json.")
    ] = None,
    data_digest: Annotated[str | None, typer.Option(help="Digest of its training data.")] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Sign with this elliptic-curve key (PEM). Needs pip install 'cclm[signing]'."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an item with a card, as one commit and a tag; a failure changes nothing."""
    metrics: Any = read_json(scores) if scores else {}
    if not isinstance(metrics, dict):
        raise ConfigError(f"{scores} must contain a JSON object of metrics by name, got {type(metrics).__name__}.")
    about = About(licence=licence, description=description, scores=metrics, data_digest=data_digest)
    done = Shelf(repo).publish(folder, identifier, item_type, about=about, tag=tag, key=key)
    values = {
        "identifier": identifier,
        "item_type": item_type,
        "tag": done.tag,
        "digest": done.card.digest,
        "commit": done.commit,
        "signed": done.signed,
    }
    _show(values, as_json)


@app.command()
def fetch(
    identifier: Identifier,
    item_type: ItemType,
    tag: Annotated[str, typer.Argument(help="A tag, a branch or a commit of the shelf.")],
    repo: Repository = None,
    cache_dir: Annotated[Path, typer.Option(help="Where fetched items are kept.")] = Path(CACHE),
    public_key: Annotated[Path | None, typer.Option(help="Require a signature by the owner of this key (PEM).")] = None,
    digest: Annotated[str | None, typer.Option(help="Require that the card has this digest.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only what was fetched before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch an item, verify every file of it, and print the folder to load it from.

    A tag or commit that was fetched once comes from the cache, and is verified again; a branch is looked up each time.
    """
    done = Shelf(repo).fetch_with_card(
        identifier, item_type, tag, cache_dir, public_key=public_key, digest=digest, offline=offline
    )
    values = {
        "folder": str(done.folder),
        "digest": done.card.digest,
        "commit": done.commit,
        "signature": done.signature,
        "from": "cache" if done.cached else "shelf",
        "licence": done.card.licence,
    }
    _show(values, as_json)


@app.command("list")
def list_items(repo: Repository = None, as_json: AsJson = False) -> None:
    """List every version of every item of a tag or the main branch."""
    rows = Shelf(repo).list()
    if as_json:
        items = [{**vars(row), "tags": list(row.tags)} for row in rows]
        print(json.dumps({"items": items}, indent=2, ensure_ascii=False))
        return
    if not rows:
        print("The shelf is empty.")
        return
    head = ("identifier", "type", "tags", "digest", "licence", "signed")
    lines = [
        (row.identifier, row.item_type, ", ".join(row.tags) or "-", row.digest[:DIGITS], row.licence, _yes(row.signed))
        for row in rows
    ]
    _print_table([head, *lines])


@app.command()
def show(
    identifier: Identifier,
    item_type: ItemType,
    tag: Annotated[str | None, typer.Option(help="A tag, a branch or a commit (default: the main branch).")] = None,
    repo: Repository = None,
    as_json: AsJson = False,
) -> None:
    """Show the card of an item: its configuration, digests, scores, licence and files."""
    card = Shelf(repo).show(identifier, item_type, tag)
    if as_json:
        print(json.dumps({"card": card.canonical(), "digest": card.digest}, indent=2, ensure_ascii=False))
    else:
        print(card.to_markdown(), end="")


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        texts = {name: _yes(value) if isinstance(value, bool) else value for name, value in values.items()}
        _print_table([(name, str(text)) for name, text in texts.items() if text is not None])


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Prints columns as wide as their widest cell: nothing is cut, whatever the width of the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _yes(value: bool) -> str:
    return "yes" if value else "no"
