"""Keeps the results of a task when only compositions or labeled sets changed that it does not use.

DVC would run its stages again, because they depend on whole folders. If the digests that a stage has recorded in its
output are those of the parts that it uses now, the flow records the new state of the folders with `dvc commit` instead.
"""

import subprocess
from collections.abc import Callable

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import parse_json
from flows import environment
from flows.graph.lockfile import back_up
from flows.graph.node import Node
from flows.graph.parts import parts_unchanged
from flows.graph.plan import reasons_of
from flows.project import Project


def keep_results(project: Project, node: Node, emit: Callable[[str], None]) -> bool:
    """Records that a stage is up to date if only parts changed that it does not use; returns whether it did.

    Args:
        project: the project.
        node: a stage. Only stages of tasks are kept: composing again takes seconds.
        emit: receives a message.
    """
    if not node.is_of_task or not parts_unchanged(node, (f"{folder} modified" for folder in node.folders), project):
        return False  # without asking DVC, which takes a second
    if not parts_unchanged(node, _reasons(project, node), project):
        return False
    if _dvc(project, "commit", "--force", node.name).returncode != 0:
        return False
    back_up(project)
    emit(f"{node.name}: only {', '.join(node.folders)} changed, not what it uses; its results are kept")
    return True


def _reasons(project: Project, node: Node) -> list[str]:
    """Why DVC considers the stage changed now, after the stages before it have ended."""
    done = _dvc(project, "status", "--json", node.name)
    try:
        entries = parse_json(done.stdout, "the output of `dvc status`") if done.returncode == 0 else {}
    except ArtifactError:
        entries = {}
    reasons = list(reasons_of(entries.get(node.name, []))) if isinstance(entries, dict) else []
    return reasons or ["unknown"]


def _dvc(project: Project, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["dvc", "--wait-for-lock", *arguments],
        cwd=project.root,
        env=environment.for_children({}),
        capture_output=True,
        text=True,
        check=False,
    )
