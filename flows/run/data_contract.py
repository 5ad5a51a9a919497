"""The contract on the data in a project: `cclm data accept`, `cclm data show`, and the lines of `cclm status`.

The stage `ingest` compares the data with `contract/accepted.json`, which is tracked by git and a dependency of the
stage. So a clone, a worker and the nightly run compare with the same data, and its result depends on nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.reporting import format_number, format_share
from flows.graph.node import artifact_kind
from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.run.tables import output_console, print_table

CONTRACT, REFUSED = "contract", ".cclm/refused"
"""The folders of accepted and of refused data, as in dvc.yaml."""

KIND, PROFILE, ACCEPTED = "checks", "profile.json", "accepted.json"
"""As in `cclm_core.steps.ingest` and `cclm_core.ingest.profile`, whose import would slow down `cclm status`."""

_COLUMNS = ("source", "measure", "accepted", "now")


@dataclass(frozen=True)
class DataStatus:
    """What the last `ingest` reported about the data.

    Attributes:
        accepted: whether there are accepted data to compare with.
        met: number of expectations that are met, counted once for each source or file.
        not_met: messages about the others.
        not_compared: messages about expectations without anything to compare with.
        refused: messages about data that stopped the last `ingest`; empty if it did not.
        differences: source -> rows with `measure`, `kind`, `now` and `accepted`.
    """

    accepted: bool
    met: int
    not_met: tuple[str, ...]
    not_compared: tuple[str, ...]
    refused: tuple[str, ...]
    differences: Mapping[str, list[dict[str, Any]]]

    def lines(self, with_drift: bool = True) -> Iterator[str]:
        """What `cclm status` prints; the last line, about the differences, only if `with_drift`."""
        if self.refused:
            yield "The last ingest refused the data, so the corpus is the former one:"
            yield from (f"  {message}" for message in self.refused)
        if self.not_met:
            yield f"Expectations on the data: {self.met} met, {len(self.not_met)} not met:"
            yield from (f"  {message}" for message in self.not_met)
        elif self.met:
            yield f"Expectations on the data: all {self.met} that could be compared are met."
        yield from self.not_compared
        if with_drift and self.accepted and (drift := [_drift(name, rows) for name, rows in self.differences.items()]):
            yield f"Data compared with the accepted ones: {'; '.join(drift)}. `cclm data show` has more."


def data_status(project: Project, plan: Plan) -> DataStatus | None:
    """What the last `ingest` reported about the data; None if no stage checks them."""
    folder = checks_folder(project, plan)
    refused = project.root / REFUSED / "metrics.json"
    if folder is None and not refused.is_file():
        return None
    nothing: dict[str, Any] = {"accepted": False, "checks": [], "differences": {}}
    values = read_json(folder / "metrics.json") if folder else nothing
    refusing = read_json(refused)["checks"] if refused.is_file() else []
    return DataStatus(
        accepted=bool(values["accepted"]),
        met=sum(check["state"] == "met" for check in values["checks"]),
        not_met=_messages(values["checks"], "not met"),
        not_compared=_messages(values["checks"], "not compared"),
        refused=_messages((check for check in refusing if check["action"] == "stop"), "not met"),
        differences=values["differences"],
    )


def checks_folder(project: Project, plan: Plan) -> Path | None:
    """The folder with the checks of the corpus; None if no stage has made one."""
    outs = (project.root / out for node in plan.nodes.values() for out in node.outs)
    return next((out for out in outs if artifact_kind(out) == KIND), None)


def accept(project: Project, refused: bool, as_json: bool) -> None:
    """Accepts the data of the corpus, or those that `ingest` refused: later data are compared with them.

    Args:
        project: the project.
        refused: accept the data that an expectation stopped or put into quarantine.
        as_json: print JSON instead of sentences.

    Raises:
        ConfigError: there are no such data, or the project is read-only.
    """
    project.require_writable("`cclm data accept`")
    plan = read_plan(project, changes=False)
    folder = _refused_folder(project, plan) if refused else _checked_folder(project, plan)
    path = project.root / CONTRACT / ACCEPTED
    before = read_json(path)["sources"] if path.is_file() else {}
    profile = read_json(folder / PROFILE)
    alphabet = _alphabet(project, plan)
    path.parent.mkdir(exist_ok=True)
    write_json(path, profile | {"alphabet": alphabet})
    texts = {name: source["texts"] for name, source in profile["sources"].items()}
    if as_json:
        print(json.dumps({"path": f"{CONTRACT}/{ACCEPTED}", "texts": texts, "has_vocabulary": alphabet is not None}))
        return
    for name, number in texts.items():
        former = f" (accepted before: {before[name]['texts']:,})" if name in before else ""
        print(f"Accepted {number:,} texts of {_source(name)}{former}.")
    for name in before.keys() - texts.keys():
        print(f"{_source(name)} is no longer expected.".capitalize())
    if alphabet is None:
        print(
            "There is no vocabulary yet, so the expectation `bytes` cannot be compared. Accept again after `cclm run`."
        )
    print(
        f"Commit {CONTRACT}/{ACCEPTED}, so that other clones, workers and the nightly run compare with the same data."
    )
    print("The next run reads the data again. It trains nothing unless the data have changed.")


def show(project: Project, as_json: bool) -> None:
    """Prints how the data differ from the accepted ones, and the expectations that are not met.

    Raises:
        ConfigError: no data have been checked.
    """
    plan = read_plan(project, changes=False)
    _checked_folder(project, plan)
    status = data_status(project, plan)
    assert status is not None
    if as_json:
        print(json.dumps(asdict(status), indent=2))
        return
    table = Table(title="The data of the corpus and the accepted data", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in _COLUMNS[:2] else "right")
    rows = [
        dict(
            zip(
                _COLUMNS,
                (_source(name), row["measure"], _cell(row["kind"], row["accepted"]), _cell(row["kind"], row["now"])),
                strict=True,
            )
        )
        for name, values in status.differences.items()
        for row in values
    ]
    for row in rows:
        table.add_row(*row.values())
    console = output_console()
    print_table(console, table, rows)
    if not status.accepted:
        print("No data have been accepted yet. `cclm data accept` accepts these.")
    for line in status.lines(with_drift=False):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _checked_folder(project: Project, plan: Plan) -> Path:
    folder = checks_folder(project, plan)
    if folder is None:
        raise ConfigError(
            "no checked data found. Run `cclm run --target ingest`; in dvc.yaml, its stage needs `--accepted contract "
            "--checks data/checks --refused .cclm/refused`."
        )
    return folder


def _refused_folder(project: Project, plan: Plan) -> Path:
    stopped = project.root / REFUSED
    if (stopped / PROFILE).is_file():
        return stopped
    checks = checks_folder(project, plan)
    if checks is not None and (checks / "refused" / PROFILE).is_file():
        return checks / "refused"
    raise ConfigError("no refused data found: no expectation has stopped `ingest` or put data into quarantine.")


def _alphabet(project: Project, plan: Plan) -> str | None:
    """The alphabet of the vocabulary; None if it was not made yet."""
    outs = (project.root / out for node in plan.nodes.values() for out in node.outs)
    encoded = next((out for out in outs if artifact_kind(out) == "encoded"), None)
    return None if encoded is None else str(read_json(encoded / "preprocessor.json")["alphabet"])


def _messages(checks: Iterable[Mapping[str, Any]], state: str) -> tuple[str, ...]:
    return tuple(str(check["message"]) for check in checks if check["state"] == state)


def _source(name: str) -> str:
    return "the source" if name == "source" else f"source {name}"


def _cell(kind: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if kind == "count" else format_share(value) if kind == "share" else format_number(value)


def _drift(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """The largest differences of a source in a few words."""
    values = {row["measure"]: row for row in rows}
    parts = []
    if (texts := values.get("texts")) and texts["accepted"]:
        parts.append(f"{texts['now'] / texts['accepted'] - 1:+.1%} texts")
    for measure, short in (
        ("characters that the accepted data do not have", "new characters"),
        ("distance between the frequencies of characters", "distance of characters"),
        ("distance between the shares of labels", "distance of labels"),
        ("bits per character under the trigrams of the accepted data", "bits per character"),
    ):
        if measure in values:
            parts.append(f"{short} {_cell(values[measure]['kind'], values[measure]['now'])}")
    return f"{_source(name)}: {', '.join(parts) if parts else 'no accepted data'}"
