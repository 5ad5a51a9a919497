"""`cclm run`: checks, plans, runs the flow in this process where there is something to do, and tells the result."""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from cclm_core.errors import ConfigError
from cclm_core.steps import parameters
from flows.doctor.sweep import sweep, sweep_flow_runs
from flows.graph import Plan, evaluations, read_plan
from flows.lockfile import mend
from flows.open_runs import driving
from flows.paths import state
from flows.progress import Display
from flows.stage import STAGE_MODULE
from flows.tables import comparison, comparison_table, overlaps, stages_table, whereabouts
from flows.tracking import TrackingError, enabled, tracking_uri, warn


def run_pipeline(root: Path, targets: Sequence[str], force: Sequence[str], as_json: bool) -> int:
    """Brings the pipeline up to date; returns the exit code.

    Raises:
        CclmError: the configuration is wrong, or another run is under way.
    """
    from flows.promote import promotion_config

    if STAGE_MODULE not in os.environ:  # stages of your own check their own parameters
        parameters.load(_params(root))
    promotion_config(root)
    console = Console(stderr=True)
    with _alone(root):
        sweep(root)
        mend(root)
        plan = _plan(root)
        nodes = plan.select([*targets, *(force if targets else ())])
        stale = [name for name in plan.stale() if name in nodes]
        if stale or plan.match(force):
            _check(root)
            summary, code = _run_flow(root, list(nodes), stale, list(targets), list(force), console)
            plan = read_plan(root)
        else:
            summary, code = _nothing_stale(root, plan, list(nodes))
    _tell(root, plan, summary, as_json)
    return code


def _plan(root: Path) -> Plan:
    try:
        return read_plan(root)
    except ConfigError:
        _check(root)  # what it says of params.yaml is clearer than DVC's word on its templates
        raise


def _check(root: Path) -> None:
    """Checks all of params.yaml before anything runs.

    Not when nothing is stale: then every stage has checked its part, and the check imports torch, which takes longer
    than all else.
    """
    if STAGE_MODULE not in os.environ:
        from cclm_core.steps.check import check

        check(_params(root))


def _params(root: Path) -> Path:
    """params.yaml, named as briefly as the messages about it allow."""
    return Path(os.path.relpath(root / "params.yaml"))


def _run_flow(
    root: Path,
    nodes: list[str],
    stale: list[str],
    targets: list[str],
    force: list[str],
    console: Console,
) -> tuple[dict[str, Any], int]:
    console.print(f"{len(stale)} of {len(nodes)} stages are stale; starting Prefect ...", highlight=False)
    _quiet_prefect()
    # Prefect hands SIGTERM on once its flow has ended; leaving by an exception stops its temporary server as well.
    signal.signal(signal.SIGTERM, _leave)
    try:
        with driving(root):  # what it starts is known as its own, were it to be killed
            return _drive(root, nodes, targets, force, console)
    except KeyboardInterrupt:
        console.print("Interrupted; the next run goes on from here.")
        raise SystemExit(130) from None


def _drive(
    root: Path, nodes: list[str], targets: list[str], force: list[str], console: Console
) -> tuple[dict[str, Any], int]:
    _start_prefect()
    sweep_flow_runs(root)
    from flows.pipeline import PipelineError, pretrain

    with Display(root, nodes, time.time(), console):
        try:
            return pretrain(targets, force), 0
        except PipelineError as error:
            return error.summary, 1


def _nothing_stale(root: Path, plan: Plan, nodes: list[str]) -> tuple[dict[str, Any], int]:
    """Nothing to run; what is measured but not registered, e.g. after a bare `dvc repro`, is registered."""
    from flows.promote import pending, promote_workspace

    stages = [{"stage": name, "outcome": "unchanged", "seconds": 0.0, "started": None, "ended": None} for name in nodes]
    summary: dict[str, Any] = {"started": time.time(), "stages": stages, "promotion": [], "promotion_error": None}
    if enabled() and (measured := evaluations(plan, root)):
        try:
            if pending(root, measured):
                decisions = promote_workspace(root, lambda _: None)
                summary["promotion"] = [decision.as_json() for decision in decisions]
        except TrackingError as error:
            summary["promotion_error"] = str(error)
    return summary, 1 if summary["promotion_error"] else 0


def _tell(root: Path, plan: Plan, summary: dict[str, Any], as_json: bool) -> None:
    measured = evaluations(plan, root)
    compared = comparison(root, measured)
    if as_json:
        print(json.dumps(summary | {"comparison": compared, "tracking_uri": tracking_uri(root)}, indent=2))
    else:
        console = Console()
        _print_stages(console, summary)
        if compared:
            console.print(comparison_table(compared))
        for decision in summary["promotion"]:
            line = "{composition}: {model} version {version}, {result}: {reason}".format(**decision)
            console.print(line, highlight=False, soft_wrap=True)
        for line in whereabouts(root, measured, tracking_uri(root)):
            console.print(line, highlight=False, soft_wrap=True)
    for stage in summary["stages"]:
        if stage["outcome"] == "failed":
            name = str(stage["stage"])
            log = (state(root, "logs") / f"{name}.log").relative_to(root)
            Console(stderr=True).print(
                f"\nerror: {stage['message']}\n({name}'s whole log: {log})", highlight=False, markup=False
            )
    if summary["promotion_error"]:
        warn(f"the compositions are not registered in MLflow: {summary['promotion_error']}. Try `cclm promote`.")


def _print_stages(console: Console, summary: dict[str, Any]) -> None:
    if all(stage["outcome"] == "unchanged" for stage in summary["stages"]):
        console.print(f"Nothing to run: all {len(summary['stages'])} stages are up to date.", highlight=False)
        return
    console.print(stages_table(summary["stages"], summary["started"]))
    if together := overlaps(summary["stages"]):
        console.print(f"Ran side by side: {', '.join(together)}", highlight=False, soft_wrap=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two pipelines at once on one clone would overwrite each other's outputs."""
    lock = FileLock(state(root, "locks") / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"{root} must have one `cclm run` at a time; another one is at work. Wait for it.") from None
    with lock:
        yield


def _quiet_prefect() -> None:
    """This process shows the run itself; Prefect's own lines go to its server, when one is configured."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _start_prefect() -> None:
    """Starts Prefect's temporary server, or reaches the one that is configured.

    Ctrl-C goes to the whole process group. The server must outlive it, or the flow could not say that it was
    interrupted and would wait for an answer; so it is started from a thread that blocks the signal, which a child
    inherits.
    """

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            client.hello()

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(start).result()
