"""The page that explains a run: where to look, what is better, what the gate decided, what changed, what ran and why.

It is the first of the artifacts on the page of the flow run in Prefect, and the description of the run in MLflow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import format_duration
from flows.formats import format_utc, markdown_table
from flows.graph.changes import changed_parameters, recorded_in_lock
from flows.graph.plan import Plan
from flows.project import Project
from flows.run.before_after import changes_markdown
from flows.run.data_contract import data_status
from flows.run.report_page import answer_markdown

LAST_RUN = "last-run.json"
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


def run_markdown(
    project: Project, plan: Plan, changes: Changes, summary: Mapping[str, Any], links: Mapping[str, str]
) -> str:
    """The page, in Markdown.

    Args:
        project: the project.
        plan: the stages and why they were stale, before the run.
        changes: what changed before the run.
        summary: the result of the run, see `flows.run.pipeline.carry_out`.
        links: names of pages -> their addresses; empty if MLflow has no server.
    """
    has_report = bool(summary.get("report"))
    best = "\n".join(f"* {line}" for line in summary.get("best") or ())
    sections = [
        _headline(summary),
        _links(summary, links),
        _failures(project, summary),
        _section("What is better", answer_markdown(project, plan) if has_report else "", best),
        _section("What the gate decided", _gate(summary)),
        _section(
            "What changed since the last run" + (f" ({format_utc(changes.since)})" if changes.since else ""),
            _changes(changes),
        ),
        _section("The data", _data(project, plan)),
        _section("Before and after", _figures(summary)),
        _section("What ran", _stages(plan, summary)),
    ]
    return "\n\n".join(section for section in sections if section)


def _section(title: str, *texts: str) -> str:
    """A section with the texts that are not empty; "" if all are."""
    filled = [text for text in texts if text]
    return "\n\n".join([f"## {title}", *filled]) if filled else ""


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


def _figures(summary: Mapping[str, Any]) -> str:
    figures = summary.get("metric_changes") or []
    changed = [figure for figure in figures if figure["before"] != figure["after"]]
    rest = len(figures) - len(changed)
    same = f"{rest} {'figure' if rest == 1 else 'figures'} did not change." if rest else ""
    return "\n\n".join(text for text in (changes_markdown(changed), same) if text)


def _data(project: Project, plan: Plan) -> str:
    status = data_status(project, plan)
    lines = list(status.lines()) if status else []
    return "\n".join(f"* {_escaped(line.strip())}" for line in lines)


def _stages(plan: Plan, summary: Mapping[str, Any]) -> str:
    stale = plan.stale()
    rows = [
        [
            row["stage"],
            row["outcome"],
            format_duration(row["seconds"]),
            _escaped(_listed(stale.get(row["stage"], ("forced",)))),
        ]
        for row in summary["stages"]
        if row["outcome"] != "unchanged"
    ]
    unchanged = len(summary["stages"]) - len(rows)
    rest = f"{unchanged} {'stage was' if unchanged == 1 else 'stages were'} up to date." if unchanged else ""
    return "\n\n".join(filter(None, [_table(["stage", "outcome", "time", "why"], rows, len(rows)), rest]))


def _gate(summary: Mapping[str, Any]) -> str:
    # A list, because Prefect's pages cut off long cells of tables.
    lines = [
        f"* **{row['name']}**, {row['model']} version {row['version']}: **{row['result']}**. {_escaped(row['reason'])}"
        for row in summary["promotion"]
    ]
    return "\n".join(lines) or "Nothing: no composition or task was measured again."


def _links(summary: Mapping[str, Any], links: Mapping[str, str]) -> str:
    pages = [f"[{name}]({address})" for name, address in links.items()] or ["MLflow: `cclm ui`"]
    if summary.get("report"):
        pages.append(f"report: `{summary['report']}`, also among the artifacts of the run in MLflow")
    return " · ".join(pages)


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
