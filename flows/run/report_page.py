"""The report for people: the published pages, with the facts of the run that made them.

A stage's output has no times in it, so that it is reproducible. The copy in `.cclm/report` has: durations, gate
decisions, the commit, links.
"""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cclm_core.report import ANSWER, FACTS_PLACE, FILE, KIND
from cclm_core.runtime.artifacts import MANIFEST, read_json, write_text
from cclm_core.runtime.reporting import format_duration
from flows.formats import format_megabytes, format_utc
from flows.gate.model_pages import published_report
from flows.graph.plan import Plan
from flows.project import Project
from flows.tracking.records import read_record

_STAGE_COLUMNS = ["stage", "in this run", "duration when it last ran", "CPU time", "peak memory"]
_DECISION_COLUMNS = ["name", "model", "version", "result", "reason"]


def answer(project: Project, plan: Plan) -> dict[str, list[str]]:
    """What the report says is better, as `lines`, and what to do `next`; empty without a report."""
    folder = published_report(project, plan)
    return {} if folder is None else read_json(folder / ANSWER)


def answer_markdown(project: Project, plan: Plan) -> str:
    """The answer as Markdown; "" without a report."""
    given = answer(project, plan)
    lines = [f"* {line}" for line in given.get("lines", [])]
    steps = [f"**Next:** {' '.join(given['next'])}"] if given.get("next") else []
    return "\n".join([*lines, *(["", *steps] if steps else [])])


def write_report(project: Project, plan: Plan, summary: Mapping[str, Any], links: Mapping[str, str]) -> Path | None:
    """Writes the copy with the facts of a run to `.cclm/report/report.html`, and the pages of the models next to it.

    Args:
        project: the project.
        plan: its stages.
        summary: the result of the run, see `flows.run.pipeline.carry_out`.
        links: names of pages -> their addresses; empty if MLflow has no server.

    Returns:
        The copy; None if the run has neither made nor checked the report.
    """
    done = {row["stage"] for row in summary["stages"] if row["outcome"] not in ("failed", "not run")}
    folder = published_report(project, plan)
    if folder is None or not any(name in done for name, node in plan.nodes.items() if node.is_summary):
        return None
    facts = json.dumps(_facts(project, summary, links), sort_keys=True).replace("<", "\\u003c")
    page = (folder / FILE).read_text(encoding="utf-8")
    path = copy_path(project)
    shutil.rmtree(path.parent, ignore_errors=True)
    # The page is written last: without it, the copy does not count.
    shutil.copytree(folder, path.parent, ignore=shutil.ignore_patterns(FILE, ANSWER, MANIFEST))
    write_text(path, page.replace(FACTS_PLACE, FACTS_PLACE.replace("null", facts), 1))
    return path


def copy_path(project: Project) -> Path:
    """Where `write_report` writes to."""
    return project.state() / KIND / FILE


def report_files(summary: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """The pages of a run's report, each with its folder among the artifacts; empty if the run has no report."""
    if not summary.get("report"):
        return []
    root = Path(summary["report"]).parent
    return [(path, path.relative_to(root).parent.as_posix().removeprefix(".")) for path in sorted(root.rglob("*.html"))]


def newest_report(project: Project, plan: Plan) -> Path | None:
    """The page to open: the copy with the facts of a run if it is about the published results, otherwise the output."""
    folder = published_report(project, plan)
    if folder is None:
        return None
    page, copy = folder / FILE, copy_path(project)
    if copy.is_file():
        start, _, end = page.read_text(encoding="utf-8").partition(FACTS_PLACE)
        text = copy.read_text(encoding="utf-8")
        if text.startswith(start) and text.endswith(end):
            return copy
    return page


def _facts(project: Project, summary: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """The facts that page.js shows."""
    commit, dirty = project.git_revision()
    started, ended = float(summary["started"]), float(summary.get("ended") or time.time())
    ran = sum(row["outcome"] == "ran" for row in summary["stages"])
    took = format_duration(ended - started)
    sentence = f"Started {format_utc(started)}, took {took}; {ran} of {len(summary['stages'])} stages ran."
    if commit:
        sentence += f" Git commit {commit[:12]}{' with uncommitted changes' if dirty else ''}."
    rows, marks = [], []
    for row in summary["stages"]:
        record = read_record(project, row["stage"])
        cost = record.cost if record else {}
        rows.append(
            [
                row["stage"],
                row["outcome"],
                _cell(cost.get("seconds"), format_duration),
                _cell(cost.get("cpu_seconds"), format_duration),
                _cell(cost.get("peak_memory_megabytes"), format_megabytes),
            ]
        )
        marks.append([row["stage"], format_duration(cost["seconds"]) if "seconds" in cost else "", row["outcome"]])
    decisions = [[str(decision[name]) for name in _DECISION_COLUMNS] for decision in summary.get("promotion") or ()]
    return {
        "summary": sentence,
        "links": [{"text": name, "address": address} for name, address in links.items()],
        "decision_columns": _DECISION_COLUMNS,
        "decisions": decisions,
        "stage_columns": _STAGE_COLUMNS,
        "stages": rows,
        "marks": marks,
    }


def _cell(value: float | None, formatted: Any) -> Any:
    """A number as the page shows and sorts it."""
    return "" if value is None else {"text": formatted(value), "sort": value}
