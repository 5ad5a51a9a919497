"""`cclm shelf`: create a shelf, publish, fetch, list and show items."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cclm_core.cli.columns import print_columns
from cclm_core.cli.conventions import examples
from cclm_core.cli.own_code import runs_own_code
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.shelf import About, Shelf
from cclm_core.shelf.names import ITEM_TYPES
from cclm_core.shelf.shelf import CACHE, VARIABLE

DIGITS = 12  # of a digest, in tables

app = typer.Typer(
    help="Publish and fetch preprocessors, embedders, components and compositions. A shelf is a Git repository; DVC "
    "stores its large files. Every file is verified before it is opened.",
    no_args_is_help=True,
)

Repository = Annotated[
    str | None, typer.Option("--repo", envvar=VARIABLE, help="The shelf: a folder, or an address (https, ssh, file).")
]
Identifier = Annotated[str, typer.Argument(help="Name of the item on the shelf, e.g. en_plays_1.")]
ItemType = Annotated[
    str,
    typer.Argument(help=f"Type of the item: {', '.join(ITEM_TYPES)}.", autocompletion=lambda: list(ITEM_TYPES)),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command(epilog=examples("cclm shelf create ../shelf --remote ../shelf-files"))
def create(
    path: Annotated[Path, typer.Argument(help="Folder of the shelf, empty or missing.")],
    remote: Annotated[
        str, typer.Option(help="Storage of the items' files: a folder, or an address, e.g. s3://<bucket>/<folder>.")
    ],
    as_json: AsJson = False,
) -> None:
    """Create an empty shelf. To share it, push it to where others can read it, and make its storage readable too."""
    repository = str(Shelf.create(path, remote).repository)
    print(json.dumps({"repository": repository}) if as_json else f"Created an empty shelf in {repository}.")


@app.command(
    epilog=examples(
        "cclm shelf publish models/base en_plays_1 embedder --license Apache-2.0 --tag v0.1.0 --repo ../shelf"
    )
)
@runs_own_code
def publish(
    folder: Annotated[Path, typer.Argument(help="Output of a stage or of `save`, e.g. models/base.")],
    identifier: Identifier,
    item_type: ItemType,
    license: Annotated[str, typer.Option(help="License of the item, e.g. Apache-2.0.")],
    repo: Repository = None,
    tag: Annotated[str | None, typer.Option(help="A new tag for this version, e.g. v0.2.1. Tags never move.")] = None,
    description: Annotated[str, typer.Option(help="One line on what the item is (default: none).")] = "",
    scores: Annotated[
        Path | None, typer.Option(help="A JSON file with metrics, added to those in the item's metrics.json.")
    ] = None,
    data_digest: Annotated[
        str | None, typer.Option(help="SHA-256 of the training data (default: the one in the item's card.json).")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Sign with this elliptic-curve private key, a PEM file. Needs pip install 'cclm-core\\[signing]'."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an item with its card, as one commit and a tag. A failure changes nothing."""
    metrics: Any = read_json(scores) if scores else {}
    if not isinstance(metrics, dict):
        raise ConfigError(f"{scores} must contain a JSON object of metrics by name, got {type(metrics).__name__}.")
    about = About(license=license, description=description, scores=metrics, data_digest=data_digest)
    published = Shelf(repo).publish(folder, identifier, item_type, about=about, tag=tag, key=key)
    values = {
        "identifier": identifier,
        "item_type": item_type,
        "tag": tag,
        "digest": published.card.digest,
        "commit": published.commit,
        "signed": published.signed,
    }
    _print_values(values, as_json)


@app.command(epilog=examples("cclm shelf fetch en_plays_1 embedder v0.1.0 --repo ../shelf"))
def fetch(
    identifier: Identifier,
    item_type: ItemType,
    tag: Annotated[str, typer.Argument(help="A tag, branch or commit of the shelf.")],
    repo: Repository = None,
    cache_dir: Annotated[Path, typer.Option(help="Folder in which fetched items are stored.")] = Path(CACHE),
    public_key: Annotated[
        Path | None, typer.Option(help="Require a signature by the owner of this public key, a PEM file.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Require this digest of the card.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only the cache.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch an item, verify every file, and print the folder to load it from.

    A tag or commit is looked up once; after that the item comes from the cache and is verified again.
    A branch is looked up each time.
    """
    fetched = Shelf(repo).fetch_with_card(
        identifier, item_type, tag, cache_dir, public_key=public_key, digest=digest, offline=offline
    )
    values = {
        "folder": str(fetched.folder),
        "digest": fetched.card.digest,
        "commit": fetched.commit,
        "signature": fetched.signature,
        "from": "cache" if fetched.cached else "shelf",
        "license": fetched.card.license,
    }
    _print_values(values, as_json)


@app.command("list", epilog=examples("cclm shelf list --repo ../shelf"))
def list_items(repo: Repository = None, as_json: AsJson = False) -> None:
    """List every version of every item at a tag or the main branch."""
    versions = Shelf(repo).list()
    if as_json:
        items = [
            {
                "identifier": version.card.identifier,
                "item_type": version.card.item_type,
                "digest": version.card.digest,
                "license": version.card.license,
                "tags": version.tags,
                "signed": version.signed,
            }
            for version in versions
        ]
        print(json.dumps({"items": items}, indent=2))
    elif not versions:
        print("The shelf is empty. Add an item with `cclm shelf publish`.")
    else:
        rows = [("identifier", "type", "tags", "digest", "license", "signed")]
        for version in versions:
            card, tags = version.card, ", ".join(version.tags) or "-"
            rows += [(card.identifier, card.item_type, tags, card.digest[:DIGITS], card.license, _yes(version.signed))]
        print_columns(rows)


@app.command(epilog=examples("cclm shelf show en_plays_1 embedder --tag v0.1.0 --repo ../shelf"))
def show(
    identifier: Identifier,
    item_type: ItemType,
    tag: Annotated[str | None, typer.Option(help="A tag, branch or commit (default: the main branch).")] = None,
    repo: Repository = None,
    as_json: AsJson = False,
) -> None:
    """Show the card of an item: its configuration, digests, scores, license and files."""
    card = Shelf(repo).show(identifier, item_type, tag)
    if as_json:
        print(json.dumps({"card": card.canonical(), "digest": card.digest}, indent=2))
    else:
        print(card.to_markdown(), end="")


def _print_values(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        texts = {name: _yes(value) if isinstance(value, bool) else value for name, value in values.items()}
        print_columns([(name, str(text)) for name, text in texts.items() if text is not None])


def _yes(value: bool) -> str:
    return "yes" if value else "no"
