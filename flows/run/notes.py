"""The description of a pipeline run, in Markdown, for MLflow and Prefect."""

from collections.abc import Mapping
from typing import Any

from cclm_core.runtime.reporting import format_duration
from flows.formats import markdown_table
from flows.graph.plan import Plan
from flows.project import Project
from flows.run.before_after import changes_markdown
from flows.run.report_page import answer_markdown


def run_note(project: Project, plan: Plan, summary: Mapping[str, Any]) -> str:
    """What a run changed, trained and decided, what is better now, and what to do next.

    Args:
        project: the project.
        plan: its stages.
        summary: the result of the run, see `flows.run.pipeline.carry_out`.
    """
    has_report = bool(summary.get("report"))
    sections = [
        _stages(summary),
        _parameters(summary),
        answer_markdown(project, plan) if has_report else "",
        "\n".join(f"* {line}" for line in summary.get("best") or ()),
        _section("Before and after", changes_markdown(summary.get("metric_changes") or [])),
        _section("The gate", _decisions(summary)),
        "The whole report: `report.html` among the artifacts, with a page per model next to it." if has_report else "",
    ]
    return "\n\n".join(section for section in sections if section)


def _stages(summary: Mapping[str, Any]) -> str:
    ran = [row for row in summary["stages"] if row["outcome"] in ("ran", "restored")]
    failed = [row["stage"] for row in summary["stages"] if row["outcome"] == "failed"]
    names = ", ".join(f"{row['stage']} ({format_duration(row['seconds'])})" for row in ran)
    text = f"{len(ran)} of {len(summary['stages'])} stages ran{': ' if names else '.'}{names}"
    return text + (f"\n\n**Failed:** {', '.join(failed)}" if failed else "")


def _parameters(summary: Mapping[str, Any]) -> str:
    changed = (summary.get("changes") or {}).get("parameters") or {}
    rows = [(f"`{key}`", str(former), str(new)) for key, (former, new) in changed.items()]
    return markdown_table(("changed parameter", "before", "after"), rows)


def _decisions(summary: Mapping[str, Any]) -> str:
    return "\n".join(
        "* **{name}** version {version}: {result}. {reason}".format(**decision)
        for decision in summary.get("promotion") or ()
    )


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}" if text else ""
