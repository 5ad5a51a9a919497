"""`cclm`: the library's commands, and those that drive, show and promote the pipeline."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cclm_core.cli import app as core
from cclm_core.errors import CclmError, ConfigError
from flows import environment
from flows.paths import project_root
from flows.stack.cli import app as stack

app = typer.Typer(
    help="Composable character-level language models: pretrain components apart, compose them, retrain one alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(core)
app.add_typer(stack, name="stack")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@app.command()
def run(
    target: Annotated[
        list[str] | None,
        typer.Option(help="Only this stage or group of stages and what it needs, e.g. evaluate@full; repeatable."),
    ] = None,
    force: Annotated[list[str] | None, typer.Option(help="Run this stage even if nothing changed; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the pipeline up to date: run what changed, side by side where it can, then register the compositions."""
    from flows.run import run_pipeline

    sys.exit(run_pipeline(_project(), target or [], force or [], as_json))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say which stages are stale, and why."""
    from flows.graph import read_plan

    plan = read_plan(_project())
    stale = plan.stale()
    if as_json:
        rows = [{"stage": name, "stale": name in stale, "why": list(stale.get(name, ()))} for name in plan.nodes]
        print(json.dumps({"stages": rows}, indent=2))
        return
    if not stale:
        print(f"All {len(plan.nodes)} stages are up to date.")
        return
    table = Table()
    for column in ("stage", "state", "why"):
        table.add_column(column)
    for name in plan.nodes:
        table.add_row(name, "stale" if name in stale else "up to date", "\n".join(_shortened(stale.get(name, ()))))
    Console().print(table)
    print(f"{len(stale)} of {len(plan.nodes)} stages would be looked at by `cclm run`.")


@app.command()
def promote(
    accept: Annotated[
        list[str] | None, typer.Option(help="Make this composition's candidate its champion by hand; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register the evaluated compositions, and let the gate decide which become champion."""
    from flows import promote as promotion
    from flows.tracking import enabled

    root = _project()
    if not enabled():
        raise ConfigError("CCLM_TRACKING must not be off to promote: registering needs MLflow. Unset it.")
    say = (lambda _: None) if as_json else print
    if accept:
        decisions = [promotion.accept(root, name) for name in accept]
        for decision in decisions:
            say(str(decision))
    else:
        decisions = promotion.promote_workspace(root, say)
    if as_json:
        print(json.dumps([decision.as_json() for decision in decisions], indent=2))


@app.command()
def ui(port: Annotated[int, typer.Option(help="Where to listen, on this machine only.")] = 5000) -> None:
    """Open MLflow's pages on the runs, learning curves and registered models."""
    from flows.tracking import connect, tracking_uri

    root = _project()
    uri = tracking_uri(root)
    if uri.startswith("http"):
        print(f"MLflow is at {uri}")
        return
    connect(root)
    print(f"MLflow: http://127.0.0.1:{port}  (Ctrl-C ends it)", flush=True)
    command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *command])


@app.command()
def serve(
    composition: Annotated[str, typer.Argument(help="Its name, e.g. full.")],
    alias: Annotated[str, typer.Option(help="Which of its registered versions.")] = "champion",
    port: Annotated[int, typer.Option(help="Where to listen, on this machine only.")] = 5001,
) -> None:
    """Answer over HTTP: POST {"inputs": ["a text", ...]} to /invocations gives an embedding for each."""
    from flows.registry import Registry, model_name
    from flows.tracking import connect

    root = _project()
    tracking, model = connect(root), model_name(composition)
    if Registry(tracking).get(model, alias) is None:
        raise ConfigError(f"{model} must have a version with the alias {alias}; it has none. See `cclm promote`.")
    settings = environment.for_children({"MLFLOW_TRACKING_URI": tracking.uri})  # it finds its own server in the path
    words = ["-m", f"models:/{model}@{alias}", "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "models", "serve", *words], settings)


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 a stage or the registry failed, 2 something that you must mend."""
    try:
        app()
    except CclmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _project() -> Path:
    root = project_root()
    os.chdir(root)
    environment.apply(root)
    return root


def _shortened(reasons: tuple[str, ...]) -> list[str]:
    """The first reasons, and how many more there are: a changed library touches dozens of files."""
    return [*reasons[:4], *([f"and {len(reasons) - 4} more"] if len(reasons) > 4 else [])]


if __name__ == "__main__":
    main()
