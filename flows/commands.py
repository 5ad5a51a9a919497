"""`cclm run`, `retrain`, `finetune` and `push`: check, plan, run the flow in this process if needed, print results."""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console

from cclm_core.runtime.errors import ConfigError
from flows.graph.evaluations import evaluations
from flows.graph.params_file import change_settings, undone_if_refused
from flows.graph.plan import Plan, read_plan
from flows.messages import warn
from flows.project import Project
from flows.recovery.sweep import sweep_flow_runs
from flows.remote.dvc_remote import PushError, push_outputs, wants_push
from flows.run.before_after import Change, changes_table
from flows.run.checks import check_files, check_parameters, checked_plan
from flows.run.prefect_pages import page_links
from flows.run.preparation import delete_recorded_checkpoints, prepared
from flows.run.report_page import answer, newest_report
from flows.run.retraining import plan_retraining
from flows.run.tables import (
    comparison,
    current,
    evaluation_warnings,
    metric_values,
    output_console,
    overlaps,
    print_comparison,
    print_table,
    stage_rows,
    stages_table,
    where_to_look,
)
from flows.run.task_table import print_tasks
from flows.tracking.client import TrackingError, connect, enabled, tracking_uri
from flows.tracking.progress import Display


def run_pipeline(
    project: Project,
    targets: Sequence[str],
    force: Sequence[str],
    as_json: bool,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Runs the stale stages and registers the compositions and tasks; returns the exit code.

    Args:
        project: the project to run.
        targets: stages or groups to run with the stages that they need; all if empty.
        force: stages to run even if nothing changed.
        as_json: print JSON instead of tables.
        settings: new values by key, e.g. {"base.training.steps": 500}; written to params.yaml.

    Raises:
        CclmError: the configuration is invalid, or another run is in progress.
    """
    with prepared(project):
        with undone_if_refused(project):
            if settings:
                change_settings(project, settings)
            warnings = check_files(project)
            plan = checked_plan(project)
            forced = plan.match(force)
            nodes = plan.select([*targets, *(force if targets else ())])
        for warning in warnings:
            warn(warning)
        stale = [name for name in plan.stale() if name in nodes]
        if stale or forced:

            def start() -> dict[str, Any]:
                """Runs the flow of the pipeline."""
                from flows.run.pipeline import pretrain

                return pretrain(list(targets), list(force))

            summary, code = _run_flow(project, list(nodes), stale, start)
            plan = read_plan(project)
        else:
            summary, code = _nothing_stale(project, plan, list(nodes))
    _print_result(project, plan, summary, as_json)
    return code


def run_retraining(
    project: Project, name: str, settings: Mapping[str, Any], force: bool, as_json: bool, section: str | None = None
) -> int:
    """Retrains one component or task, then measures and registers what is made from it; returns the exit code.

    Args:
        project: the project to run.
        name: a component or a task of params.yaml.
        settings: new values by key, e.g. {"training.steps": 500}; written to params.yaml.
        force: train even if nothing changed.
        as_json: print JSON instead of tables.
        section: `components` or `tasks`; None for the one that has the name.

    Raises:
        CclmError: no such component or task, a wrong setting, stale inputs, or another run is in progress.
    """
    with prepared(project):
        planned = plan_retraining(project, name, settings, section)
        plan = planned.plan
        if planned.stale or force:
            check_parameters(project)

            def start() -> dict[str, Any]:
                """Runs the flow of one component or task."""
                from flows.deployments.retrain import retrain_component

                return retrain_component(name, {}, force, section or "")

            summary, code = _run_flow(project, list(planned.nodes), list(planned.stale) or [planned.stage], start)
            plan = read_plan(project)
        else:
            summary, code = _nothing_stale(project, plan, list(planned.nodes))
            summary["retrained"] = planned.summary(project, "unchanged")
    _print_result(project, plan, summary, as_json)
    if "retrained" in summary and not as_json:
        print(summary["retrained"]["message"] + ".")
    return code


def push_now(project: Project, as_json: bool) -> int:
    """Uploads the outputs recorded in dvc.lock to the DVC remote; returns the exit code.

    Raises:
        ConfigError: no remote is configured, or a run is in progress.
    """
    with prepared(project):
        try:
            remote = push_outputs(project)
        except PushError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    if remote is None:
        raise ConfigError("no DVC remote to push to. Run `dvc remote add -d NAME ADDRESS`.")
    print(
        json.dumps({"remote": remote})
        if as_json
        else f"All outputs recorded in dvc.lock are in the DVC remote {remote}."
    )
    return 0


def _run_flow(
    project: Project, nodes: list[str], stale: list[str], start: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], int]:
    console = Console(stderr=True)
    console.print(f"{len(stale)} of {len(nodes)} stages are stale; starting Prefect ...", highlight=False)
    _quiet_prefect()
    # Prefect passes SIGTERM on when its flow has ended. Leaving by an exception also stops Prefect's temporary server.
    signal.signal(signal.SIGTERM, _leave)
    try:
        with _prefect_errors():
            _start_servers(project)
            sweep_flow_runs(project)
            from flows.run.pipeline import PipelineError

            with Display(project, nodes, time.time(), console):
                try:
                    return start(), 0
                except PipelineError as error:
                    return error.summary, 1
    except KeyboardInterrupt:
        console.print("Interrupted; the next run continues from here.")
        raise SystemExit(130) from None


def _nothing_stale(project: Project, plan: Plan, nodes: list[str]) -> tuple[dict[str, Any], int]:
    """Catches up after a bare `dvc repro` or a failure: registers evaluated compositions, uploads recorded outputs."""
    from flows.gate.promote import pending, promote_workspace

    stages = [{"stage": name, "outcome": "unchanged", "seconds": 0.0, "started": None, "ended": None} for name in nodes]
    summary: dict[str, Any] = {"started": time.time(), "stages": stages, "promotion": [], "promotion_error": None}
    summary |= {"pushed": None, "push_error": None}
    delete_recorded_checkpoints(project, plan)
    if enabled() and (measured := evaluations(plan, project)):
        try:
            if pending(project, measured):
                decisions = promote_workspace(project, lambda _: None)
                summary["promotion"] = [decision.as_json() for decision in decisions]
        except TrackingError as error:
            summary["promotion_error"] = str(error)
    try:
        if wants_push(project):
            summary["pushed"] = push_outputs(project)
    except PushError as error:
        summary["push_error"] = str(error)
    return summary, 1 if summary["promotion_error"] or summary["push_error"] else 0


def _print_result(project: Project, plan: Plan, summary: dict[str, Any], as_json: bool) -> None:
    measured = evaluations(plan, project)
    shown = current(measured, summary["stages"])
    # Results that this run has neither made nor checked would look like new ones.
    outdated = [evaluation.name for evaluation in measured if evaluation.measured_by.name in plan.stale()]
    compared = comparison(project, [evaluation for evaluation in shown if not evaluation.is_task])
    tasks, warnings = comparison(project, [entry for entry in shown if entry.is_task]), evaluation_warnings(shown)
    if as_json:
        values = {"comparison": metric_values(compared), "tasks": metric_values(tasks)}
        added = values | {"outdated": outdated, "warnings": warnings}
        print(json.dumps(summary | added | {"tracking_uri": tracking_uri(project)}, indent=2))
    else:
        console = output_console()
        _print_stages(console, summary)
        if compared:
            print_comparison(console, compared)
        print_tasks(console, tasks)
        if changed := [Change(**change) for change in summary.get("metric_changes") or ()]:
            print_table(console, changes_table(changed), [change.row() for change in changed])
        for line in summary.get("best") or ():
            console.print(line, highlight=False, soft_wrap=True)
        if outdated:
            console.print(f"Not shown, because their results are out of date: {', '.join(outdated)}", soft_wrap=True)
        for decision in summary["promotion"]:
            line = "{name}: {model} version {version}, {result}: {reason}".format(**decision)
            console.print(line, highlight=False, soft_wrap=True)
        links = [f"{name}: {address}" for name, address in page_links(project, summary).items()]
        for line in [*where_to_look(project, shown, tracking_uri(project)), *links]:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        _print_report(console, project, plan)
        for warning in warnings:
            warn(warning)
    for stage in summary["stages"]:
        if stage["outcome"] == "failed":
            name = str(stage["stage"])
            log = (project.state("logs") / f"{name}.log").relative_to(project.root)
            message = f"\nerror: {stage['message']}\n(whole log: {log})"
            Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)
    if summary["promotion_error"]:
        warn(
            "the compositions and tasks are not registered in MLflow: "
            f"{summary['promotion_error']}. Run `cclm promote`."
        )
    if summary["push_error"]:
        warn(f"{summary['push_error']}\nThey are complete in this clone. The next run or `cclm push` tries again.")


def _print_report(console: Console, project: Project, plan: Plan) -> None:
    """Prints what the report says, and as the last line where it is; nothing if it is out of date."""
    stale = plan.stale()
    page = newest_report(project, plan)
    if page is None or any(node.is_summary and name in stale for name, node in plan.nodes.items()):
        return
    given = answer(project, plan)
    for line in given["lines"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if given["next"]:
        console.print(f"Next: {' '.join(given['next'])}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {page.as_uri()}", highlight=False, markup=False, soft_wrap=True)


def _print_stages(console: Console, summary: dict[str, Any]) -> None:
    if all(stage["outcome"] == "unchanged" for stage in summary["stages"]):
        console.print(f"Nothing to run: all {len(summary['stages'])} stages are up to date.", highlight=False)
        return
    arguments = summary["stages"], summary["started"]
    print_table(console, stages_table(*arguments), stage_rows(*arguments))
    if together := overlaps(summary["stages"]):
        console.print(f"Ran in parallel: {', '.join(together)}", highlight=False, soft_wrap=True)


def _quiet_prefect() -> None:
    """Hides Prefect's log lines, since this process displays the run; a configured Prefect server still gets them."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
        # A temporary server does not restart: wait 15 s per call for it instead of a minute.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")


@contextmanager
def _prefect_errors() -> Iterator[None]:
    """Ends this process with one line if Prefect's server cannot be reached, or refuses a request."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    where = f"Prefect at {PREFECT_API_URL.value()}" if PREFECT_API_URL.value() else "Prefect's temporary server"
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = " Check PREFECT_API_AUTH_STRING." if status in (401, 403) else ""
        print(f"error: {where} refused a request with the status {status}.{hint}", file=sys.stderr)
    except httpx.HTTPError as error:
        print(f"error: {where} does not answer ({type(error).__name__}: {error}).", file=sys.stderr)
    except RuntimeError as error:
        if not _is_from_prefect_client(error):
            raise
        first_line = (str(error).splitlines() or [""])[0]
        print(f"error: {where} does not answer ({first_line}).", file=sys.stderr)
    else:
        return
    raise SystemExit(1)


def _is_from_prefect_client(error: BaseException) -> bool:
    """Whether Prefect raised an error while it connected to a server: it has no class of its own for that."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(
        part in frames[-1].filename for part in ("prefect/client/", "prefect/server/api/server")
    )


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _start_servers(project: Project) -> None:
    """Starts Prefect's temporary server, or connects to the configured one, and opens MLflow in parallel.

    In a new clone each takes seconds to create its database. Ctrl-C goes to the whole process group, but the server
    must survive it: otherwise the flow could not report the interruption and would hang. So the thread that starts the
    server blocks the signal, and the server inherits that.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        # The client imports this at its first call, but two threads that import at once can see half a module.
        import prefect.server.api.server  # noqa: F401

    def start() -> None:
        """Starts or connects to the server."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with get_client(sync_client=True) as client:
            client.hello()

    with ThreadPoolExecutor(max_workers=1) as pool:
        server = pool.submit(start)
        if enabled():
            with suppress(TrackingError):  # the flow connects again, and reports the error
                connect(project)
        server.result()
