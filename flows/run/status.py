"""`cclm status`: what is stale and why, what a run would do, and what each stage cost when it last ran.

It must answer at once, so it reads only DVC and files: it imports neither torch nor MLflow nor Prefect, and asks no
server. What only a server knows is reported as unknown here; `cclm doctor` asks.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cclm_core.runtime.artifacts import folder_digest
from flows.devices.slots import num_slots
from flows.gate.registry import DIGEST_TAG
from flows.graph.dvc_private import folder_remote, object_path, recorded_outputs
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.tracking.client import enabled, tracking_uri
from flows.tracking.mlflow_private import registered_digests
from flows.tracking.records import StageRecord, read_record

PIPED_COLUMNS = 160
# What a run would do with a stage.
RUNS, RESTORED, FOLLOWS, NOTHING, RUNNING = "runs", "is restored", "follows", "nothing", "is running"
RECOMPOSES = "recomposes"
MAY_RUN = (RUNS, FOLLOWS, RECOMPOSES)
EQUAL_PARTS = "none of its parts changed, so it is not evaluated again"


@dataclass(frozen=True)
class StageStatus:
    """The state of a stage.

    Attributes:
        run_would: `runs`; `is restored` from DVC's cache; `follows` the stages that it needs: it runs if their results
            change, and is restored or skipped otherwise; `recomposes`: only components that it does not contain
            changed, so it runs in seconds to equal files, and is not evaluated again; `nothing`; `is running` now.
        cost: of its last successful run: `seconds`, `cpu_seconds`, `peak_memory_megabytes`; empty if unknown.
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
        slots: how many stages that need a device run in parallel.
        wall_seconds: estimated duration of a run if each stage takes as long as the last time; None if a stage that may
            run was never measured.
        unregistered: compositions that are evaluated and not registered; None if only a server knows.
        unpushed: outputs that the default remote lacks; None if only a server knows, or there is no remote.
    """

    stages: tuple[StageStatus, ...]
    slots: int
    wall_seconds: float | None
    unregistered: tuple[str, ...] | None
    unpushed: tuple[str, ...] | None

    @property
    def todo(self) -> list[StageStatus]:
        """The stages that may run."""
        return [one for one in self.stages if one.run_would in MAY_RUN]

    def total(self, name: str) -> float | None:
        """The sum of a cost over the stages that may run; None if one was never measured."""
        values = [one.cost.get(name) for one in self.todo]
        return None if None in values else sum(value for value in values if value is not None)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        totals = {name: self.total(name) for name in ("seconds", "cpu_seconds")}
        return asdict(self) | {"total": totals}


def read_status(project: Project) -> Status:
    """Inspects the project without changing anything.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid.
    """
    plan, slots = read_plan(project), num_slots()
    stages = tuple(_stages(project, plan))
    measured = [one for one in evaluations(plan, project) if one.evaluate.name not in plan.stale()]
    return Status(stages, slots, wall_seconds(stages, slots), _unregistered(project, measured), _unpushed(project))


def show(project: Project, as_json: bool) -> None:
    """Prints the status."""
    status = read_status(project)
    if as_json:
        print(json.dumps(status.as_json(), indent=2))
        return
    stale = [one for one in status.stages if one.stale]
    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    if stale:
        console.print(_table(status.stages))
        print(f"{len(stale)} of {len(status.stages)} stages are stale.")
        if status.todo:
            print(_estimate(status))
    else:
        print(f"All {len(status.stages)} stages are up to date.")
    for line in _waiting(status):
        console.print(line, highlight=False, soft_wrap=True)


def wall_seconds(stages: Sequence[StageStatus], slots: int) -> float | None:
    """How long a run would take if every stage that may run took as long as the last time.

    A stage starts when the stages that it needs have ended and, if it needs a device, a device is free. Parallel stages
    may slow each other down, which is not counted.
    """
    free = [0.0] * slots
    ends: dict[str, float] = {}
    waiting = {one.stage: one for one in stages if one.run_would in MAY_RUN}
    if any("seconds" not in one.cost for one in waiting.values()):
        return None
    while waiting:
        ready = {
            name: max((ends[need] for need in one.needs if need in ends), default=0.0)
            for name, one in waiting.items()
            if not any(need in waiting for need in one.needs)
        }
        starts = {name: max(at, min(free)) if waiting[name].needs_device else at for name, at in ready.items()}
        name = min(starts, key=lambda name: starts[name])
        one = waiting.pop(name)
        ends[name] = starts[name] + one.cost["seconds"]
        if one.needs_device:
            free[free.index(min(free))] = ends[name]
    return max(ends.values(), default=0.0)


def _stages(project: Project, plan: Plan) -> Iterable[StageStatus]:
    stale = plan.stale()
    for name, node in plan.nodes.items():
        record = read_record(project, name)
        if record is not None and record.running:
            would = RUNNING
        elif name not in stale:
            would = NOTHING
        elif name in plan.recomposed and not any(need in stale for need in node.needs):
            would = RECOMPOSES
        elif name not in plan.changed or any(need in stale for need in node.needs):
            would = FOLLOWS
        else:
            would = RESTORED if name in plan.restorable else RUNS
        why = stale.get(name, ()) + ((EQUAL_PARTS,) if would == RECOMPOSES else ())
        yield StageStatus(name, name in stale, why, would, node.needs_device, node.needs, _cost(record))


def _cost(record: StageRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    if record.cost or record.status != "FINISHED" or record.ended is None:
        return record.cost
    numbers = {name: value for name, value in record.host.items() if isinstance(value, float)}
    return {"seconds": record.ended - record.started} | numbers  # a record from before costs were kept


def _unregistered(project: Project, measured: Iterable[Evaluation]) -> tuple[str, ...] | None:
    """The compositions without a registered version; reads MLflow's database directly if it is a file."""
    digests = {one.name: folder_digest(one.composition) for one in measured}
    uri = tracking_uri(project)
    if not enabled() or not digests:
        return ()
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.is_file():
        return tuple(digests)
    known = registered_digests(path, DIGEST_TAG)
    if known is None:
        return None
    return tuple(name for name, value in digests.items() if value not in known)


def _unpushed(project: Project) -> tuple[str, ...] | None:
    """The outputs in dvc.lock that a remote in a folder lacks. DVC pushes a folder's own entry after its files."""
    remote = folder_remote(project.root)
    if remote is None or not project.lock_file.is_file():
        return None
    outs = {out["path"]: str(out.get("md5", "")) for out in recorded_outputs(project.lock_file.read_bytes())}
    return tuple(path for path, md5 in outs.items() if md5 and not object_path(remote, md5).exists())


def _table(stages: Sequence[StageStatus]) -> Table:
    table = Table()
    table.add_column("stage", no_wrap=True)
    table.add_column("a run", no_wrap=True)
    table.add_column("why")
    for column in ("seconds", "CPU seconds", "peak MB"):
        table.add_column(column, justify="right")
    for one in stages:
        cost = [one.cost.get(name) for name in ("seconds", "cpu_seconds", "peak_memory_megabytes")]
        figures = ["" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in cost]
        would = "" if one.run_would == NOTHING else one.run_would
        table.add_row(one.stage, would, "\n".join(_shortened(_joined(one.why))), *figures)
    table.title = "What `cclm run` would do, and the cost of each stage's last successful run here"
    table.title_justify = "left"
    return table


def _estimate(status: Status) -> str:
    unknown = [one.stage for one in status.todo if "seconds" not in one.cost]
    if unknown:
        return f"Their duration is unknown. Never measured here: {', '.join(_shortened(tuple(unknown)))}."
    seconds, processor = status.total("seconds"), status.total("cpu_seconds")
    assert seconds is not None
    used = "" if processor is None else f", {processor:,.0f} CPU seconds"
    wall = f"about {status.wall_seconds:,.0f} s on {status.slots} device slots"
    return f"If all of them ran as last time: {seconds:,.0f} s of stages{used}; in total {wall}."


def _waiting(status: Status) -> list[str]:
    lines = []
    if status.unregistered:
        lines.append(f"Evaluated but not registered: {', '.join(status.unregistered)}. `cclm run` registers them.")
    if status.todo and enabled():
        lines.append("`cclm run` then registers what it has composed or evaluated, and lets the gate decide.")
    if status.unpushed:
        lines.append(f"Not on the remote: {', '.join(_shortened(status.unpushed))}. `cclm push` uploads them.")
    return lines


def _joined(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """All `after ...` reasons in one line.

    >>> _joined(("data changed", "after a", "after b"))
    ('data changed', 'after a, b')
    """
    after = [reason.removeprefix("after ") for reason in reasons if reason.startswith("after ")]
    others = [reason for reason in reasons if not reason.startswith("after ")]
    return (*others, *([f"after {', '.join(after)}"] if after else []))


def _shortened(reasons: tuple[str, ...]) -> list[str]:
    """The first reasons and the number of the others: a changed library touches dozens of files."""
    return [*reasons[:4], *([f"and {len(reasons) - 4} more"] if len(reasons) > 4 else [])]
