"""The command `cclm serve`."""

from typing import Annotated

import typer

from cclm_core.cli import completion
from cclm_core.cli.conventions import MODELS, examples
from cclm_core.cli.own_code import runs_own_code

commands = typer.Typer()


@commands.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "cclm serve tickets@candidate",
        "cclm serve full tickets --port 8080 --host 0.0.0.0 --allow-host models.example.org",
    ),
)
@runs_own_code
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Registered models, NAME or NAME@ALIAS (default alias: champion), or published folders, such as "
            "./compositions/full.",
            autocompletion=completion.models(),
        ),
    ],
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen on, e.g. 0.0.0.0 in a container.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Host name that requests may name, in addition to those of this machine. Repeatable."),
    ] = None,
    token: Annotated[
        bool,
        typer.Option(
            "--token/--no-token",
            help="Require the token in CCLM_SERVE_TOKEN or .cclm/serve.token, which is created if it is missing.",
        ),
    ] = True,
    max_bytes: Annotated[int, typer.Option(help="Maximum size of a request in bytes.", min=1)] = 1_000_000,
    max_texts: Annotated[int, typer.Option(help="Maximum number of texts in a request.", min=1)] = 1_000,
    max_characters: Annotated[int, typer.Option(help="Maximum number of characters in a text.", min=1)] = 100_000,
    max_seconds: Annotated[float, typer.Option(help="Maximum time to compute an answer.")] = 30,
    client_seconds: Annotated[
        float, typer.Option(help="Maximum time for a client to send the headers, to send the body, to read the answer.")
    ] = 10,
    max_queue: Annotated[int, typer.Option(help="Maximum number of requests that wait for a model.", min=1)] = 256,
    batch_texts: Annotated[
        int, typer.Option(help="Maximum number of texts per batch; 1 disables batching.", min=1)
    ] = 64,
    batch_milliseconds: Annotated[
        float, typer.Option(help="How long a request waits for others to join its batch.", min=0)
    ] = 5,
    refresh_seconds: Annotated[float, typer.Option(help="Time between two looks for a newer version.")] = 30,
) -> None:
    """Serve models over HTTP: POST {"texts": ["a text", ...]} to /predict or /embed. /docs describes it."""
    from flows.service.config import ServiceConfig
    from flows.service.start import serve as start

    config = ServiceConfig(
        host=host,
        port=port,
        allowed_hosts=tuple(allow_host or ()),
        max_bytes=max_bytes,
        max_texts=max_texts,
        max_characters=max_characters,
        max_seconds=max_seconds,
        client_seconds=client_seconds,
        max_queue=max_queue,
        batch_texts=batch_texts,
        batch_milliseconds=batch_milliseconds,
        refresh_seconds=refresh_seconds,
    )
    start(models, config, token)
