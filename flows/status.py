"""`cclm status`: what is stale and why, what a run would do, and what each stage cost when it last ran.

It must answer at once, so it asks DVC and files alone: no torch, no MLflow, no Prefect is imported and no server asked.
What they alone know is left to `cclm doctor`, and called unknown here.
"""

import configparser
import json
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from cclm_core.runtime.artifacts import folder_digest
from flows.graph import Evaluation, Plan, evaluations, read_plan
from flows.records import StageRecord, read_record
from flows.registry import DIGEST_TAG
from flows.slots import num_slots
from flows.tracking import enabled, tracking_uri

PIPED_COLUMNS = 160
# What a run would do with a stage.
RUNS, RESTORED, FOLLOWS, NOTHING, RUNNING = "runs", "is restored", "follows", "nothing", "is running"


@dataclass(frozen=True)
class StageStatus:
    """A stage as it stands.

    Attributes:
        run_would: `runs`; `is restored` from DVC's cache; `follows` what it needs: it runs if that comes out
            otherwise than before, and is restored or left alone else; `nothing`; `is running` at this moment.
        cost: of its last run that succeeded: `seconds`, `cpu_seconds`, `peak_memory_megabytes`; empty where it was
            never measured.
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
    """The pipeline as it stands.

    Attributes:
        slots: how many stages that need a device run side by side.
        wall_seconds: an estimate of how long a run would take, were each stage to take as long as the last time: None
            where a stage that may run was never measured.
        unregistered: compositions that are measured and not registered; None where only a server knows.
        unpushed: outputs that the default remote lacks; None where only a server knows, or there is no remote.
    """

    stages: tuple[StageStatus, ...]
    slots: int
    wall_seconds: float | None
    unregistered: tuple[str, ...] | None
    unpushed: tuple[str, ...] | None

    @property
    def todo(self) -> list[StageStatus]:
        """The stages that may run."""
        return [one for one in self.stages if one.run_would in (RUNS, FOLLOWS)]

    def total(self, name: str) -> float | None:
        """The sum of a cost over the stages that may run; None where one was never measured."""
        values = [one.cost.get(name) for one in self.todo]
        return None if None in values else sum(value for value in values if value is not None)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        totals = {name: self.total(name) for name in ("seconds", "cpu_seconds")}
        return asdict(self) | {"total": totals}


def read_status(root: Path) -> Status:
    """Looks at the project; starts nothing and changes nothing.

    Raises:
        ConfigError: dvc.yaml or params.yaml is wrong.
    """
    plan, slots = read_plan(root), num_slots()
    stages = tuple(_stages(root, plan))
    measured = [one for one in evaluations(plan, root) if one.evaluate.name not in plan.stale()]
    return Status(stages, slots, wall_seconds(stages, slots), _unregistered(root, measured), _unpushed(root))


def show(root: Path, as_json: bool) -> None:
    """Prints it."""
    status = read_status(root)
    if as_json:
        print(json.dumps(status.as_json(), indent=2))
        return
    stale = [one for one in status.stages if one.stale]
    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    if stale:
        console.print(_table(status.stages))
        print(f"{len(stale)} of {len(status.stages)} stages would be looked at by `cclm run`.")
        if status.todo:
            print(_estimate(status))
    else:
        print(f"All {len(status.stages)} stages are up to date.")
    for line in _waiting(status):
        console.print(line, highlight=False, soft_wrap=True)


def wall_seconds(stages: Sequence[StageStatus], slots: int) -> float | None:
    """How long a run would take if every stage that may run took as long as the last time.

    Each starts when what it needs has ended and, if it needs a device, one is free. That stages side by side may slow
    each other down is not known and not counted.
    """
    free = [0.0] * slots
    ends: dict[str, float] = {}
    waiting = {one.stage: one for one in stages if one.run_would in (RUNS, FOLLOWS)}
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


def _stages(root: Path, plan: Plan) -> Iterable[StageStatus]:
    stale = plan.stale()
    for name, node in plan.nodes.items():
        record = read_record(root, name)
        if record is not None and record.running:
            would = RUNNING
        elif name not in stale:
            would = NOTHING
        elif name not in plan.changed or any(need in stale for need in node.needs):
            would = FOLLOWS
        else:
            would = RESTORED if name in plan.restorable else RUNS
        cost = _cost(record)
        yield StageStatus(name, name in stale, stale.get(name, ()), would, node.needs_device, node.needs, cost)


def _cost(record: StageRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    if record.cost or record.status != "FINISHED" or record.ended is None:
        return record.cost
    numbers = {name: value for name, value in record.host.items() if isinstance(value, float)}
    return {"seconds": record.ended - record.started} | numbers  # a record of before costs were kept


def _unregistered(root: Path, measured: Iterable[Evaluation]) -> tuple[str, ...] | None:
    """Asks MLflow's database itself where it is a file: opening it through MLflow takes seconds."""
    digests = {one.name: folder_digest(one.composition) for one in measured}
    uri = tracking_uri(root)
    if not enabled() or not digests:
        return ()
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.is_file():
        return tuple(digests)
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2) as connection:
            rows = connection.execute("SELECT value FROM model_version_tags WHERE key = ?", [DIGEST_TAG])
            known = {value for (value,) in rows}
    except sqlite3.Error:  # another version's tables, or busy
        return None
    return tuple(name for name, value in digests.items() if value not in known)


def _unpushed(root: Path) -> tuple[str, ...] | None:
    """The outputs in dvc.lock that a remote in a folder lacks. DVC sends a folder's own entry after its files."""
    folder = _folder_remote(root)
    lock = root / "dvc.lock"
    if folder is None or not lock.is_file():
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stages: Mapping[str, Any] = (yaml.load(lock.read_text(encoding="utf-8"), loader) or {}).get("stages", {})
    outs = {out["path"]: str(out.get("md5", "")) for stage in stages.values() for out in stage.get("outs", [])}
    return tuple(
        path for path, md5 in outs.items() if md5 and not (folder / "files" / "md5" / md5[:2] / md5[2:]).exists()
    )


def _folder_remote(root: Path) -> Path | None:
    """The default remote, when it is a folder on this machine."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    name = parser.get("core", "remote", fallback="")
    url = parser.get(f"'remote \"{name}\"'", "url", fallback="")
    if not url or "://" in url:
        return None
    return Path(url) if Path(url).is_absolute() else (root / ".dvc" / url).resolve()


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
    table.title = "What `cclm run` would do; the figures are those of each stage's last run that succeeded here"
    table.title_justify = "left"
    return table


def _estimate(status: Status) -> str:
    unknown = [one.stage for one in status.todo if "seconds" not in one.cost]
    if unknown:
        return f"How long they would take is unknown: never measured here: {', '.join(_shortened(tuple(unknown)))}."
    seconds, processor = status.total("seconds"), status.total("cpu_seconds")
    assert seconds is not None
    used = "" if processor is None else f", {processor:,.0f} CPU seconds"
    wall = f"about {status.wall_seconds:,.0f} s on {status.slots} device slots"
    return f"If all of them ran as last time: {seconds:,.0f} s of stages{used}; estimated {wall}."


def _waiting(status: Status) -> list[str]:
    lines = []
    if status.unregistered:
        lines.append(f"Measured and not registered: {', '.join(status.unregistered)}. `cclm run` would register them.")
    if status.todo and enabled():
        lines.append("What it composes or evaluates anew, it would then register and put before the gate.")
    if status.unpushed:
        lines.append(f"Not on the remote: {', '.join(_shortened(status.unpushed))}. `dvc push` sends them.")
    return lines


def _joined(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """What it comes after, in one line.

    >>> _joined(("data changed", "after a", "after b"))
    ('data changed', 'after a, b')
    """
    after = [reason.removeprefix("after ") for reason in reasons if reason.startswith("after ")]
    others = [reason for reason in reasons if not reason.startswith("after ")]
    return (*others, *([f"after {', '.join(after)}"] if after else []))


def _shortened(reasons: tuple[str, ...]) -> list[str]:
    """The first reasons, and how many more there are: a changed library touches dozens of files."""
    return [*reasons[:4], *([f"and {len(reasons) - 4} more"] if len(reasons) > 4 else [])]
