"""The command `cclm`: the commands of the library, and those that run, inspect and promote the pipeline."""

import json
import sqlite3
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from cclm_core.cli import completion
from cclm_core.cli.app import commands as core
from cclm_core.cli.conventions import (
    CONTEXT,
    EPILOG,
    MODELS,
    OPERATION,
    PIPELINE,
    GroupedCommands,
    examples,
    run_command_line,
    version_option,
)
from cclm_core.cli.own_code import runs_own_code
from cclm_core.runtime.errors import ConfigError
from flows import data_cli, edit_cli, serve_cli
from flows.environment import enter_project
from flows.messages import warn
from flows.tracking.client import TrackingError

app = typer.Typer(
    help="Train character-level language models as components, compose them, and retrain one without the others.",
    cls=GroupedCommands,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    callback=version_option,
)
app.add_typer(core)
app.add_typer(
    edit_cli.add,
    name="add",
    rich_help_panel=PIPELINE,
    help="Add a component, composition or task to params.yaml, comments kept.",
)
app.add_typer(
    edit_cli.remove,
    name="remove",
    rich_help_panel=PIPELINE,
    help="Remove a component, composition or task from params.yaml.",
)
app.add_typer(data_cli.data, name="data", rich_help_panel=PIPELINE)

Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One of its keys and the new value in YAML, e.g. training.steps=500. It is checked and written to "
        "params.yaml. Repeatable.",
    ),
]
Trainable = Annotated[
    str,
    typer.Argument(
        help="A component or a task of params.yaml, e.g. entities.",
        autocompletion=completion.names("components", "tasks"),
    ),
]
Compared = Annotated[
    str,
    typer.Argument(
        help="NAME (in this project), NAME@champion, NAME/3, or a folder with results or a model.",
        autocompletion=completion.models(),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command(
    rich_help_panel=PIPELINE,
    epilog=examples(
        "cclm run",
        "cclm run --target pretrain --set components.entities.training.steps=500",
        "cclm run --force evaluate@full --json",
    ),
)
def run(
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this stage or group and the stages that it needs, e.g. pretrain or evaluate@full (default: "
            "all). Repeatable.",
            metavar="STAGE",
            autocompletion=completion.stages,
        ),
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(
            help="Run this stage even if nothing changed. Repeatable.",
            metavar="STAGE",
            autocompletion=completion.stages,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of params.yaml and its new value in YAML, e.g. components.entities.encoder.width=256. It is "
            "checked and written to params.yaml. Repeatable.",
            autocompletion=completion.keys,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the stages that are out of date, in parallel if possible, then register the compositions and tasks."""
    from flows.commands import run_pipeline
    from flows.graph.params_file import parse_settings

    sys.exit(run_pipeline(enter_project(), target or [], force or [], as_json, parse_settings(setting or [])))


@app.command(rich_help_panel=PIPELINE, epilog=examples("cclm status", "cclm status --json", "cclm status --check"))
def status(
    as_json: AsJson = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Print only what is wrong with the scheduled runs; exit with 1 if anything is. For cron.",
        ),
    ] = False,
) -> None:
    """Show which stages are stale and why, and how long they took last time."""
    from flows.run.nightly import schedule_problems
    from flows.run.status import show

    if not check:
        show(enter_project(), as_json)
        return
    problems = schedule_problems(enter_project(), time.time())
    for line in [json.dumps({"problems": problems})] if as_json else problems:
        print(line)
    raise typer.Exit(int(bool(problems)))


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "cclm promote --accept full",
        "cclm promote --rollback full --reason 'wrong labels'",
        "cclm promote --import-from mlflow.db",
    ),
)
def promote(
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="Make the candidate of this composition or task its champion, without the gate. Repeatable.",
            metavar="NAME",
            autocompletion=completion.models(),
        ),
    ] = None,
    rollback: Annotated[
        list[str] | None,
        typer.Option(
            help="Restore the previous champion of this composition or task. Repeatable.",
            metavar="NAME",
            autocompletion=completion.models(),
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Reason for --rollback, stored in the tags of the version.")
    ] = "no reason given",
    import_from: Annotated[
        str | None,
        typer.Option(
            help="Copy the champions of another MLflow registry, a SQLite file or a URI, to the one in use. Champions "
            "that are there already stay.",
            metavar="REGISTRY",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register the measured compositions and tasks, and let the gate choose champions, or choose them yourself."""
    from flows.gate import overrides
    from flows.gate.importing import import_champions
    from flows.gate.promote import promote_workspace
    from flows.tracking.client import enabled

    project = enter_project()
    project.require_writable("`cclm promote`")
    if not enabled():
        raise ConfigError("CCLM_TRACKING must not be off for `cclm promote`: registering needs MLflow. Unset it.")
    if sum(map(bool, (accept, rollback, import_from))) > 1:
        raise ConfigError("--accept, --rollback and --import-from must not be combined. Use one of them.")
    emit = (lambda _: None) if as_json else print
    if import_from:
        decisions = import_champions(project, import_from, emit)
    elif accept or rollback:
        decisions = [overrides.accept(project, name) for name in accept or []]
        decisions += [overrides.roll_back(project, name, reason) for name in rollback or []]
        for decision in decisions:
            emit(str(decision))
    else:
        decisions = promote_workspace(project, emit)
    if as_json:
        print(json.dumps([decision.as_json() for decision in decisions], indent=2))


@app.command(rich_help_panel=MODELS, epilog=examples("cclm lineage full"))
def lineage(
    name: Annotated[
        str,
        typer.Argument(
            help="A composition, a task, a component or another output, e.g. full, entities, encoded.",
            autocompletion=completion.names("compositions", "tasks", "ensembles", "components", "labeled"),
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show the inputs of an output: digests, parameters, code, and the runs that made them."""
    from rich.console import Console

    from flows.gate.lineage import Lineage, tree
    from flows.graph.plan import read_plan
    from flows.tracking.client import connect, enabled

    project = enter_project()
    tracking = None
    try:
        tracking = connect(project) if enabled() else None
    except TrackingError as error:
        if not project.read_only:
            raise
        warn(f"the runs are not shown, because MLflow cannot be read ({error}).")
    ancestry = Lineage(project, read_plan(project, changes=False), tracking).of(name)
    if as_json:
        print(json.dumps(ancestry.as_json(), indent=2))
    else:
        width = None if sys.stdout.isatty() else 100_000  # do not wrap lines in a file or a pipe
        Console(width=width).print(tree(ancestry), highlight=False)


@app.command(rich_help_panel=OPERATION, epilog=examples("cclm doctor", "cclm doctor --repair"))
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Repair the problems (default: only report them).")] = False,
    as_json: AsJson = False,
) -> None:
    """Check DVC, MLflow and Prefect for leftovers of a crash: stuck runs, orphaned processes, lost files."""
    from flows.doctor.command import doctor as examine

    project = enter_project()
    if repair:
        project.require_writable("`cclm doctor --repair`")
    sys.exit(examine(project, repair, as_json))


@app.command(rich_help_panel=OPERATION, epilog=examples("cclm ui --port 5050"))
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Start MLflow's web pages: runs, learning curves, registered models. Prints their address and the password."""
    from flows.servers.start import start_pages

    start_pages(enter_project(), port)


@app.command(
    rich_help_panel=PIPELINE,
    epilog=examples("cclm retrain entities", "cclm retrain entities --set training.steps=500 --force"),
)
def retrain(
    name: Trainable,
    setting: Setting = None,
    force: Annotated[bool, typer.Option("--force", help="Train it even if nothing changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain one component or task, then measure and register what is made from it. The rest does not change."""
    from flows.commands import run_retraining
    from flows.graph.params_file import parse_settings

    sys.exit(run_retraining(enter_project(), name, parse_settings(setting or []), force, as_json))


@app.command(
    rich_help_panel=PIPELINE, epilog=examples("cclm finetune tickets", "cclm finetune tickets --set training.steps=500")
)
def finetune(
    task: Annotated[
        str,
        typer.Argument(
            help="Its name in params.yaml under tasks, e.g. intent.", autocompletion=completion.names("tasks")
        ),
    ],
    setting: Setting = None,
    force: Annotated[bool, typer.Option("--force", help="Train it even if nothing changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune one task, test it and let the gate decide whether it becomes the champion."""
    from flows.commands import run_retraining
    from flows.graph.params_file import parse_settings

    sys.exit(run_retraining(enter_project(), task, parse_settings(setting or []), force, as_json, "tasks"))


@app.command(rich_help_panel=MODELS, epilog=examples("cclm models"))
def models(as_json: AsJson = False) -> None:
    """Show what is registered: compositions and tasks with their versions, champions and main figures."""
    from flows.run.models import show

    show(enter_project(), as_json)


@app.command(
    rich_help_panel=MODELS,
    epilog=examples("cclm compare full language", "cclm compare full@champion full --no-time --json"),
)
@runs_own_code
def compare(
    first: Compared,
    second: Compared,
    timed: Annotated[bool, typer.Option("--time/--no-time", help="Measure the speed of both.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show which of two compositions or tasks is better on what, and how they differ in settings, data and cost."""
    from flows.run.compare import show

    show(enter_project(), first, second, timed, as_json)


@app.command(rich_help_panel=OPERATION, epilog=examples("cclm push"))
def push(as_json: AsJson = False) -> None:
    """Upload the outputs recorded in dvc.lock to the DVC remote. Other clones download them with `dvc pull`."""
    from flows.commands import push_now

    sys.exit(push_now(enter_project(), as_json))


app.add_typer(serve_cli.commands)  # last in the help


def main() -> None:
    """Runs the command line. The exit codes are `EXIT_CODES` of `cclm_core.cli.conventions`."""
    try:
        run_command_line(lambda: app(obj=_registered))
    except TrackingError as error:
        print(f"error: MLflow failed: {error}", file=sys.stderr)
        sys.exit(1)
    except sqlite3.Error as error:  # a full disk, a locked database
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


def _registered(target: str) -> AbstractContextManager[Path]:
    """Opens a registered model as a folder; see `registered_folder`."""
    from flows.registered import registered_folder

    return registered_folder(target)


if __name__ == "__main__":
    main()
