"""`cclm status`: which stages are stale and why, what a run would do, and what each stage cost in its last run.

It reads only DVC and local files, so that it answers at once: it imports neither MLflow nor Prefect, contacts no
server, and imports torch only to validate a params.yaml that has changed since it was last validated. Anything that
only a server knows is reported as unknown. `cclm doctor` asks the servers.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from cclm_core.runtime.artifacts import folder_digest
from cclm_core.runtime.reporting import format_duration
from flows import environment
from flows.devices.slots import num_slots
from flows.formats import format_megabytes
from flows.gate.seal import DIGEST_TAG
from flows.graph.dvc_private import folder_remote, object_path, recorded_outputs
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import Plan
from flows.messages import warn
from flows.project import Project
from flows.run.checks import check_files, checked_plan
from flows.run.data_contract import DataStatus, data_status
from flows.run.nightly import Nightly, nightly
from flows.run.tables import output_console, print_table
from flows.tracking.client import database, enabled, tracking_uri
from flows.tracking.mlflow_private import registered_digests
from flows.tracking.records import StageRecord, read_record

# What a run would do with a stage, as documented in `StageStatus.run_would`.
RUN, RESTORE, RUN_IF_NEEDED, NOTHING, RUNNING = "run", "restore", "run if needed", "nothing", "running now"
RECOMPOSE, KEEP = "recompose", "keep"
MAY_RUN = (RUN, RUN_IF_NEEDED, RECOMPOSE)
SAME_PARTS = "none of its parts changed, so it is not evaluated again"
SAME_INPUTS = "nothing that it uses changed, so it does not run"
MAX_REASONS = 4
COST_COLUMNS = {"time": "seconds", "CPU time": "cpu_seconds", "peak memory": "peak_memory_megabytes"}


@dataclass(frozen=True)
class StageStatus:
    """The state of a stage.

    Attributes:
        stage: name of the stage.
        stale: whether a run has to check it.
        why: reasons why it is stale.
        run_would: what a run would do with it:
            `run`: run it.
            `restore`: restore its outputs from DVC's cache.
            `run if needed`: a stage that it needs is stale. Run it if the outputs of that stage change, otherwise
            restore or skip it.
            `recompose`: only components outside this composition changed. Compose it again, which takes seconds and
            yields the same files, and do not evaluate it.
            `keep`: only compositions or labeled sets changed that this task does not use. Record that its results are
            up to date.
            `nothing`: it is up to date.
            `running now`: nothing, because it is running at the moment.
        needs_device: whether it needs a device slot.
        needs: names of the stages that it needs.
        cost: cost of its last successful run: `seconds`, `cpu_seconds`, `peak_memory_megabytes`. Empty if unknown.
    """

    stage: str
    stale: bool
    why: tuple[str, ...]
    run_would: str
    needs_device: bool
    needs: tuple[str, ...]
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """The state of the pipeline.

    Attributes:
        stages: the state of each stage, in plan order.
        slots: number of device slots, i.e. of stages that can train in parallel.
        wall_seconds: estimated duration of a run if each stage takes as long as last time; None if a stage that may run
            was never measured.
        unregistered: compositions and tasks with results that are not registered; None if only a server knows.
        unpushed: outputs missing from DVC's default remote; None if only a server knows or there is no remote.
        warnings: what in params.yaml or dvc.yaml may be a mistake; see `flows.run.checks`.
        data: what the last `ingest` reported about the data; None if no stage checks them.
        nightly: the last scheduled run in this clone; None if there was none.
    """

    stages: tuple[StageStatus, ...]
    slots: int
    wall_seconds: float | None
    unregistered: tuple[str, ...] | None
    unpushed: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()
    data: DataStatus | None = None
    nightly: Nightly | None = None

    @property
    def todo(self) -> list[StageStatus]:
        """The stages that would or might run."""
        return [stage for stage in self.stages if stage.run_would in MAY_RUN]

    def total(self, name: str) -> float | None:
        """The sum of a cost over `todo`; None if any of these stages was never measured."""
        values = [stage.cost.get(name) for stage in self.todo]
        return None if None in values else sum(value for value in values if value is not None)

    def as_json(self) -> dict[str, Any]:
        """The status as JSON-compatible values."""
        totals = {name: self.total(name) for name in ("seconds", "cpu_seconds")}
        return asdict(self) | {"total": totals}


def read_status(project: Project) -> Status:
    """Checks params.yaml and dvc.yaml, and reads the status of the project. Changes no stage.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid, or they disagree; see `flows.run.checks`.
    """
    warnings = check_files(project)
    plan, slots = checked_plan(project), num_slots()
    stages = tuple(_stages(project, plan))
    measured = [result for result in evaluations(plan, project) if result.measured_by.name not in plan.stale()]
    unregistered, unpushed = _unregistered(project, measured), _unpushed(project)
    return Status(
        stages,
        slots,
        wall_seconds(stages, slots),
        unregistered,
        unpushed,
        tuple(warnings),
        data_status(project, plan),
        nightly(project, time.time()),
    )


def show(project: Project, as_json: bool) -> None:
    """Prints the status as tables for people, or as JSON."""
    status = read_status(project)
    if as_json:
        print(json.dumps(status.as_json(), indent=2))
        return
    stale = [stage for stage in status.stages if stage.stale]
    console = output_console()
    if stale:
        print_table(console, _table(status.stages), _rows(status.stages))
        print(f"{len(stale)} of {len(status.stages)} stages are stale.")
        if status.todo:
            print(_estimate(status))
    else:
        print(f"All {len(status.stages)} stages are up to date.")
    for warning in status.warnings:
        warn(warning)
    data_lines = status.data.lines() if status.data else ()
    for line in (*data_lines, *_waiting(status), *(status.nightly.lines() if status.nightly else ())):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def wall_seconds(stages: Sequence[StageStatus], slots: int) -> float | None:
    """The duration of a run if every stage that may run takes as long as last time; None if one was never measured.

    A stage starts when the stages that it needs have ended and, if it needs a device, a slot is free. The estimate
    ignores that parallel stages slow each other down.
    """
    slots_free_at = [0.0] * slots
    ends: dict[str, float] = {}
    waiting = {stage.stage: stage for stage in stages if stage.run_would in MAY_RUN}
    if any("seconds" not in stage.cost for stage in waiting.values()):
        return None
    while waiting:
        ready = {
            name: max((ends[need] for need in stage.needs if need in ends), default=0.0)
            for name, stage in waiting.items()
            if not any(need in waiting for need in stage.needs)
        }
        starts = {
            name: max(time, min(slots_free_at)) if waiting[name].needs_device else time for name, time in ready.items()
        }
        name = min(starts, key=lambda name: starts[name])
        stage = waiting.pop(name)
        ends[name] = starts[name] + stage.cost["seconds"]
        if stage.needs_device:
            slots_free_at[slots_free_at.index(min(slots_free_at))] = ends[name]
    return max(ends.values(), default=0.0)


def _stages(project: Project, plan: Plan) -> Iterable[StageStatus]:
    stale = plan.stale()
    for name, node in plan.nodes.items():
        record = read_record(project, name)
        if record is not None and record.running:
            run_would = RUNNING
        elif name not in stale:
            run_would = NOTHING
        elif name in plan.recomposed and not any(need in stale for need in node.needs):
            run_would = KEEP if node.is_of_task else RECOMPOSE
        elif name not in plan.changed or any(need in stale for need in node.needs):
            run_would = RUN_IF_NEEDED
        else:
            run_would = RESTORE if name in plan.restorable else RUN
        why = stale.get(name, ()) + {RECOMPOSE: (SAME_PARTS,), KEEP: (SAME_INPUTS,)}.get(run_would, ())
        yield StageStatus(name, name in stale, why, run_would, node.needs_device, node.needs, _cost(record))


def _cost(record: StageRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    if record.cost or record.status != "FINISHED" or record.ended is None:
        return record.cost
    numbers = {name: value for name, value in record.host.items() if isinstance(value, float)}
    return {"seconds": record.ended - record.started} | numbers  # a record of an older version, without `cost`


def _unregistered(project: Project, measured: Iterable[Evaluation]) -> tuple[str, ...] | None:
    """The compositions and tasks without a registered version. A local database of MLflow is read directly."""
    digests = {evaluation.name: folder_digest(evaluation.model) for evaluation in measured}
    uri = tracking_uri(project)
    if not enabled() or not digests:
        return ()
    own = database(project)
    path = own if uri == environment.sqlite_uri(own) else Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///"):
        return None
    if not path.is_file():
        return tuple(digests)
    registered = registered_digests(path, DIGEST_TAG)
    if registered is None:
        return None
    return tuple(name for name, digest in digests.items() if digest not in registered)


def _unpushed(project: Project) -> tuple[str, ...] | None:
    """The outputs in dvc.lock that are missing from a folder remote.

    Checking the entry of each output is enough, because DVC pushes the entry of a folder after its files.
    """
    remote = folder_remote(project.root)
    if remote is None or not project.lock_file.is_file():
        return None
    outs = {out["path"]: str(out.get("md5", "")) for out in recorded_outputs(project.lock_file.read_bytes())}
    return tuple(path for path, md5 in outs.items() if md5 and not object_path(remote, md5).exists())


def _table(stages: Sequence[StageStatus]) -> Table:
    title = "What `cclm run` would do, and the cost of the last successful run of each stage in this clone"
    table = Table(title=title, title_justify="left")
    for column in ("stage", "action", "why", *COST_COLUMNS):
        is_cost = column in COST_COLUMNS
        table.add_column(column, justify="right" if is_cost else "left", no_wrap=column != "why", overflow="fold")
    for row in _rows(stages):
        table.add_row(*row.values())
    return table


def _rows(stages: Sequence[StageStatus]) -> list[dict[str, str]]:
    rows = []
    for stage in stages:
        action = "" if stage.run_would == NOTHING else stage.run_would
        row = {"stage": stage.stage, "action": action, "why": "\n".join(_shortened(_joined(stage.why)))}
        for column, name in COST_COLUMNS.items():
            row[column] = "" if name not in stage.cost else _cost_text(name, stage.cost[name])
        rows.append(row)
    return rows


def _cost_text(name: str, value: float) -> str:
    return format_megabytes(value) if name == "peak_memory_megabytes" else format_duration(value)


def _estimate(status: Status) -> str:
    unknown = [stage.stage for stage in status.todo if "seconds" not in stage.cost]
    if unknown:
        return (
            f"No time estimate, because these stages never ran in this clone: {', '.join(_shortened(tuple(unknown)))}."
        )
    seconds, cpu_seconds = status.total("seconds"), status.total("cpu_seconds")
    assert seconds is not None
    assert status.wall_seconds is not None
    slots = "1 device slot" if status.slots == 1 else f"{status.slots} device slots"
    cpu_time = "" if cpu_seconds is None else f", {format_duration(cpu_seconds)} of CPU time"
    return (
        f"Estimate if all of them run: about {format_duration(status.wall_seconds)} with {slots} "
        f"(sum of the stages: {format_duration(seconds)}{cpu_time})."
    )


def _waiting(status: Status) -> list[str]:
    lines = []
    if status.unregistered:
        lines.append(f"Measured but not registered: {', '.join(status.unregistered)}. `cclm run` registers them.")
    if status.todo and enabled():
        lines.append("After that, `cclm run` registers the new compositions and tasks, and the gate decides on each.")
    if status.unpushed:
        lines.append(f"Not on DVC's remote: {', '.join(_shortened(status.unpushed))}. `cclm push` uploads them.")
    return lines


def _joined(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Joins all `after ...` reasons to one.

    >>> _joined(("data changed", "after a", "after b"))
    ('data changed', 'after a, b')
    """
    after = [reason.removeprefix("after ") for reason in reasons if reason.startswith("after ")]
    own = [reason for reason in reasons if not reason.startswith("after ")]
    return (*own, *([f"after {', '.join(after)}"] if after else []))


def _shortened(reasons: tuple[str, ...]) -> list[str]:
    """The first reasons and the number of the rest. A change of the library affects dozens of files."""
    rest = len(reasons) - MAX_REASONS
    return [*reasons[:MAX_REASONS], *([f"and {rest} more"] if rest > 0 else [])]
