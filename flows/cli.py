"""`cclm`: the library's commands, and those that drive, show and promote the pipeline."""

import json
import os
import sys
from typing import Annotated

import typer

from cclm_core.cli.app import app as core
from cclm_core.runtime.errors import CclmError, ConfigError
from flows import environment
from flows.project import Project
from flows.tracking.client import TrackingError

app = typer.Typer(
    help="Composable character-level language models: pretrain components apart, compose them, retrain one alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(core)

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
    """Bring the pipeline up to date: run what changed, in parallel if possible, then register the compositions."""
    from flows.commands import run_pipeline

    sys.exit(run_pipeline(_project(), target or [], force or [], as_json))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show what is stale and why, what a run would do, and what it cost last time."""
    from flows.run.status import show

    show(_project(), as_json)


@app.command()
def promote(
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Make this composition's candidate its champion without the gate; repeatable."),
    ] = None,
    rollback: Annotated[
        list[str] | None,
        typer.Option(help="Make this composition's previous champion its champion again; repeatable."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, with --rollback; kept in the version's tags.")] = "no reason given",
    as_json: AsJson = False,
) -> None:
    """Register the evaluated compositions, and let the gate decide which become champion, or decide yourself."""
    from flows.gate import overrides
    from flows.gate.promote import promote_workspace
    from flows.tracking.client import enabled

    project = _project()
    if not enabled():
        raise ConfigError("CCLM_TRACKING must not be off for `cclm promote`: registering needs MLflow. Unset it.")
    if accept and rollback:
        raise ConfigError("--accept and --rollback must not be combined: they undo each other. Use one of them.")
    emit = (lambda _: None) if as_json else print
    if accept or rollback:
        decisions = [overrides.accept(project, name) for name in accept or []]
        decisions += [overrides.roll_back(project, name, reason) for name in rollback or []]
        for decision in decisions:
            emit(str(decision))
    else:
        decisions = promote_workspace(project, emit)
    if as_json:
        print(json.dumps([decision.as_json() for decision in decisions], indent=2))


@app.command()
def lineage(
    name: Annotated[str, typer.Argument(help="A composition, a component, or another result, e.g. full, encoded.")],
    as_json: AsJson = False,
) -> None:
    """Show what a result was made from: digests, parameters, code, and the runs that made it."""
    from rich.console import Console

    from flows.gate.lineage import Lineage, tree
    from flows.graph.plan import read_plan
    from flows.tracking.client import connect, enabled

    project = _project()
    found = Lineage(project, read_plan(project, changes=False), connect(project) if enabled() else None).of(name)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        width = None if sys.stdout.isatty() else 240  # a file or a pipe has no lines to break
        Console(width=width).print(tree(found), highlight=False, soft_wrap=True)


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired (default: only report).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what a crash has left in DVC, MLflow and Prefect: stuck runs, orphaned processes, lost files."""
    from flows.doctor.command import doctor as examine

    sys.exit(examine(_project(), repair, as_json))


@app.command()
def ui(port: Annotated[int, typer.Option(help="Where to listen, on this machine only.")] = 5000) -> None:
    """Open MLflow's pages on the runs, learning curves and registered models."""
    from flows.tracking.client import connect, page_url, tracking_uri

    project = _project()
    uri = tracking_uri(project)
    if uri.startswith("http"):
        print(f"MLflow is at {uri}")
        return
    experiment = connect(project).experiment_id
    print(f"MLflow: {page_url(f'http://127.0.0.1:{port}', experiment)}  (Ctrl-C ends it)", flush=True)
    command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *command])


@app.command()
def retrain(
    component: Annotated[str, typer.Argument(help="Its name in params.yaml, under components.")],
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key below the component and its new value in YAML, e.g. training.steps=500; checked, then written "
            "into params.yaml; repeatable.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train it even if nothing changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain one component; recompose, evaluate and gate the compositions that contain it; nothing else changes."""
    from flows.commands import run_retraining
    from flows.graph.params_file import parse_settings

    sys.exit(run_retraining(_project(), component, parse_settings(setting or []), force, as_json))


@app.command()
def push(as_json: AsJson = False) -> None:
    """Copy the outputs that dvc.lock records to DVC's remote, from where other clones get them by `dvc pull`."""
    from flows.commands import push_now

    sys.exit(push_now(_project(), as_json))


@app.command()
def serve(
    composition: Annotated[str, typer.Argument(help="Its name, e.g. full.")],
    alias: Annotated[str, typer.Option(help="Which of its registered versions.")] = "champion",
    port: Annotated[int, typer.Option(help="Where to listen, on this machine only.")] = 5001,
) -> None:
    """Answer over HTTP: POST {"inputs": ["a text", ...]} to /invocations gives an embedding for each."""
    from flows.gate.registry import Registry, model_name
    from flows.tracking.client import connect

    project = _project()
    tracking, model = connect(project), model_name(composition)
    if Registry(tracking).get(model, alias) is None:
        raise ConfigError(f"{model} has no version with the alias {alias}. See `cclm promote`.")
    settings = environment.for_children({"MLFLOW_TRACKING_URI": tracking.uri})  # MLflow finds its own server in PATH
    words = ["-m", f"models:/{model}@{alias}", "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "models", "serve", *words], settings)


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 a stage or the registry failed, 2 something that you must fix."""
    try:
        app()
    except CclmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except TrackingError as error:
        print(f"error: MLflow failed: {error}", file=sys.stderr)
        sys.exit(1)


def _project() -> Project:
    project = Project.find()
    os.chdir(project.root)
    environment.apply(project)
    return project


if __name__ == "__main__":
    main()
