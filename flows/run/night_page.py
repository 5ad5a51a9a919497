"""The page that explains a run in Prefect: what changed, what ran and why, what the gate decided, where to look.

It is the first of the artifacts on the page of the flow run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast
from uuid import UUID

from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import format_duration
from flows.formats import format_utc, markdown_table
from flows.graph.changes import changed_parameters, recorded_in_lock
from flows.graph.plan import Plan
from flows.messages import warn
from flows.project import Project
from flows.run.data_contract import data_status
from flows.run.report_page import answer_markdown

LAST_RUN = "last-run.json"
PAGE = "about-this-run"
"""The key of the artifact with the page."""

_DESCRIPTION = "What changed, what ran, what the gate decided"
_ATTEMPTS = 40  # with five other artifacts, the page is not the first with a probability of 0.0007
_MAX_ROWS = 40
_MAX_CHARACTERS = 60  # of a value
_CODE = ("cclm_core/", "blocks")


@dataclass(frozen=True)
class Changes:
    """What changed since the outputs were made.

    Attributes:
        parameters: key of params.yaml -> its value when it was last used, and now; None if it did not exist.
        data: changed files and folders that no stage makes.
        code: changed code that stages depend on.
        commits: the commits since the last run, newest first, as `abc1234 message`.
        since: when the last run started, in Unix seconds; None for the first run.
        first: stages that have never run in this project.
    """

    parameters: dict[str, tuple[Any, Any]]
    data: tuple[str, ...]
    code: tuple[str, ...]
    commits: tuple[str, ...]
    since: float | None
    first: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The changes as JSON-compatible values."""
        return asdict(self)


def find_changes(project: Project, plan: Plan) -> Changes:
    """What changed since the last run. Call it before the stages run.

    Args:
        project: the project.
        plan: its stages and why they are stale.
    """
    recorded = recorded_in_lock(project)
    made = {out for node in plan.nodes.values() for out in node.outs}
    inputs: set[str] = set()
    for name in plan.changed:
        node = plan.nodes[name]
        if name in recorded:
            inputs |= {path for path in _changed_inputs(plan.changed[name]) if path in node.deps and path not in made}
    path = project.root / ".cclm" / LAST_RUN
    last = read_json(path) if path.is_file() else {}
    code = {path for path in inputs if path.startswith(_CODE) or path.endswith(".py")}
    parameters = changed_parameters(project, [plan.nodes[name] for name in plan.changed])
    return Changes(
        parameters=dict(sorted(parameters.items())),
        data=tuple(sorted(inputs - code)),
        code=tuple(sorted(code)),
        commits=tuple(project.commits_since(str(last.get("commit") or ""))),
        since=last.get("started"),
        first=tuple(name for name in plan.changed if name not in recorded),
    )


def night_markdown(
    project: Project, plan: Plan, changes: Changes, summary: Mapping[str, Any], address: str | None
) -> str:
    """The page, in Markdown.

    Args:
        project: the project.
        plan: the stages and why they were stale, before the run.
        changes: what changed before the run.
        summary: the result of the run, see `flows.run.pipeline.carry_out`.
        address: the run in MLflow, if it has a server.
    """
    sections = [
        _headline(summary),
        _failures(project, summary),
        "## What changed since the last run" + (f" ({format_utc(changes.since)})" if changes.since else ""),
        _changes(changes),
        _data(project, plan),
        "## What ran",
        _stages(plan, summary),
        "## What the gate decided",
        _gate(summary),
        *(["## What is better", answer_markdown(project, plan)] if summary.get("report") else []),
        "## Where to look",
        _links(summary, address),
    ]
    return "\n\n".join(section for section in sections if section)


def publish_page(page: str) -> None:
    """Adds the page to the current flow run, before its other artifacts; call it after those were added.

    Prefect's pages sort the artifacts of a run by descending ID, and the server draws IDs at random. So the page is
    created again until it has the largest. If Prefect fails, a warning is printed and the flow continues.
    """
    from httpx import HTTPError
    from prefect.artifacts import create_markdown_artifact
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.exceptions import PrefectException
    from prefect.runtime import flow_run

    if not flow_run.id:
        return
    try:
        with get_client(sync_client=True) as client:
            selection = ArtifactFilter.model_validate({"flow_run_id": {"any_": [flow_run.id]}})
            others = [artifact.id for artifact in client.read_artifacts(artifact_filter=selection) if artifact.key]
            for attempt in range(_ATTEMPTS):
                created = cast(UUID, create_markdown_artifact(page, key=PAGE, description=_DESCRIPTION))
                if all(created > other for other in others) or attempt == _ATTEMPTS - 1:
                    return
                client.delete_artifact(created)
    except (HTTPError, PrefectException) as error:
        warn(f"the page about this run could not be added to Prefect's UI ({type(error).__name__}: {error}).")


def _headline(summary: Mapping[str, Any]) -> str:
    rows = summary["stages"]
    counts = {name: sum(row["outcome"] == name for row in rows) for name in ("ran", "failed", "not run")}
    took = format_duration(summary["ended"] - summary["started"])
    champions = [row["name"] for row in summary["promotion"] if row["result"] == "champion"]
    words = [f"**{counts['ran']} of {len(rows)} stages ran** in {took}"]
    words += [f"**{counts['failed']} failed**, so {counts['not run']} did not run"] if counts["failed"] else []
    words += [f"new champion: {', '.join(champions)}"] if champions else ["no new champion"]
    return "; ".join(words) + "."


def _failures(project: Project, summary: Mapping[str, Any]) -> str:
    lines = []
    for row in summary["stages"]:
        if row["outcome"] == "failed":
            log = f".cclm/logs/{row['stage']}.log in {project.root}"
            lines.append(f"### {row['stage']} failed\n\n```\n{row['message']}\n```\n\nThe whole log: `{log}`")
    for name, what in (("promotion_error", "Registering in MLflow failed"), ("push_error", "`dvc push` failed")):
        if summary.get(name):
            lines.append(f"### {what}\n\n```\n{summary[name]}\n```")
    return "\n\n".join(lines)


def _changes(changes: Changes) -> str:
    parts = []
    if changes.parameters:
        rows = [
            [f"`{key}`", _value(before), _value(now)]
            for key, (before, now) in list(changes.parameters.items())[:_MAX_ROWS]
        ]
        parts.append(_table(["parameter", "before", "now"], rows, len(changes.parameters)))
    for what, paths in (("Data", changes.data), ("Code", changes.code)):
        if paths:
            parts.append(f"{what}: {_listed([f'`{path}`' for path in paths])}")
    if changes.commits:
        parts.append("Commits:\n\n" + "\n".join(f"* {_escaped(commit)}" for commit in changes.commits))
    if changes.first:
        parts.append(f"Never run before in this project: {_listed(changes.first)}")
    return "\n\n".join(parts) or "Nothing: parameters, data and code are those of the existing outputs."


def _data(project: Project, plan: Plan) -> str:
    status = data_status(project, plan)
    lines = list(status.lines()) if status else []
    return "## The data\n\n" + "\n".join(f"* {_escaped(line.strip())}" for line in lines) if lines else ""


def _stages(plan: Plan, summary: Mapping[str, Any]) -> str:
    stale = plan.stale()
    rows = [
        [row["stage"], row["outcome"], format_duration(row["seconds"]), _escaped(_listed(stale.get(row["stage"], ())))]
        for row in summary["stages"]
        if row["outcome"] != "unchanged"
    ]
    unchanged = len(summary["stages"]) - len(rows)
    rest = f"{unchanged} {'stage was' if unchanged == 1 else 'stages were'} up to date." if unchanged else ""
    return "\n\n".join(filter(None, [_table(["stage", "outcome", "time", "why"], rows, len(rows)), rest]))


def _gate(summary: Mapping[str, Any]) -> str:
    rows = [
        [row["name"], f"{row['model']} version {row['version']}", f"**{row['result']}**", _escaped(row["reason"])]
        for row in summary["promotion"]
    ]
    if not rows:
        return "Nothing: no composition or task was measured again."
    return _table(["name", "version", "result", "reason"], rows, len(rows))


def _links(summary: Mapping[str, Any], address: str | None) -> str:
    lines = [f"* [This run in MLflow]({address})"] if address else ["* MLflow: `cclm ui`"]
    if summary.get("report"):
        lines.append(f"* The report: `{summary['report']}`, also among the artifacts of the run in MLflow")
    return "\n".join(lines)


def _changed_inputs(reasons: Iterable[str]) -> set[str]:
    """The paths in DVC's reasons, see `flows.graph.plan.reasons_of`."""
    paths = set()
    for reason in reasons:
        for ending in (" modified", " new", " is missing"):
            if reason.endswith(ending) and ": " not in reason:
                paths.add(reason.removesuffix(ending))
    return paths


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], number: int) -> str:
    """The first of `number` rows."""
    return markdown_table(columns, rows) + (f"\n\n... and {number - len(rows)} more" if number > len(rows) else "")


def _value(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"`{_escaped(text[:_MAX_CHARACTERS])}`" + ("..." if len(text) > _MAX_CHARACTERS else "")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_ROWS
    return ", ".join(names[:_MAX_ROWS]) + (f" and {rest} more" if rest > 0 else "")


def _escaped(text: str) -> str:
    """A text in a cell or a line of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
