"""The plan: the stages in DVC's graph, their dependencies, and which changed and why."""

import fnmatch
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.dvc_private import can_restore, open_repository
from flows.graph.node import Node, flatten
from flows.graph.parts import recomposed, resolve_parts
from flows.project import Project


@dataclass(frozen=True)
class Plan:
    """The stages in topological order, and why some of them are stale.

    Attributes:
        nodes: stage name -> stage, dependencies first.
        changed: stage name -> reasons, for stages whose own inputs changed according to DVC.
        restorable: changed stages that need not run, because DVC's cache has the outputs for their current inputs.
        recomposed: changed stages whose own parts are unchanged: only other outputs in the same folder changed.
            Compositions are composed again, which produces the same files; the stages of tasks do not run. So the
            stages after them need not run.
    """

    nodes: dict[str, Node]
    changed: dict[str, tuple[str, ...]]
    restorable: frozenset[str] = frozenset()
    recomposed: frozenset[str] = frozenset()

    def stale(self) -> dict[str, tuple[str, ...]]:
        """The stages that a run has to check, in order, with reasons: the changed stages and those after them.

        If only parts that a stage does not use changed, the stage is stale, but the stages after it are not.
        """
        reasons: dict[str, tuple[str, ...]] = {}
        cascading: set[str] = set()
        for name, node in self.nodes.items():
            after = tuple(f"after {need}" for need in node.needs if need in cascading)
            shared = tuple(f"after {writer}, not one of its parts" for writer in node.shares if writer in cascading)
            own = self.changed.get(name, ())
            if why := own + after + shared:
                reasons[name] = why
            if after or (own and name not in self.recomposed):
                cascading.add(name)
        return reasons

    def select(self, targets: Iterable[str]) -> dict[str, Node]:
        """The stages that match `targets`, with everything they need, in order.

        Args:
            targets: stages (`pretrain@entities`), groups (`pretrain`) or patterns (`pretrain@*`); empty for all stages.

        Raises:
            ConfigError: a target matches no stage.
        """
        names = set(self.match(targets)) if targets else set(self.nodes)
        for name in reversed(self.nodes):
            if name in names:
                names.update(self.nodes[name].needs)
        return {name: node for name, node in self.nodes.items() if name in names}

    def match(self, targets: Iterable[str]) -> list[str]:
        """The names of the stages that match `targets`, in order.

        Raises:
            ConfigError: a target matches no stage.
        """
        matches: set[str] = set()
        for target in targets:
            names = [name for name in self.nodes if target in (name, name.partition("@")[0])]
            names = names or fnmatch.filter(self.nodes, target)
            if not names:
                raise ConfigError(f"{target} is not a stage of dvc.yaml; {nearest(target, list(self.nodes))}")
            matches.update(names)
        return [name for name in self.nodes if name in matches]


def read_plan(project: Project, changes: bool = True) -> Plan:
    """Reads the stage graph of the project from DVC.

    Args:
        changes: whether to also determine which stages changed.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid.
    """
    from dvc.repo import lock_repo

    # DVC discards its index each time it takes its lock. Holding one lock throughout reads dvc.yaml only once.
    with _repository(project) as repo, lock_repo(repo):
        import networkx  # type: ignore[import-untyped]

        graph = repo.index.graph
        ordered = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing)
        order = [stage for stage in ordered if _is_of_pipeline(stage)]
        nodes = resolve_parts({stage.name: _node(stage, graph, project) for stage in order}, project)
        stages = order if changes else []
        changed = {stage.name: why for stage in stages if (why := _why(stage))}
        restorable = {stage.name for stage in stages if stage.name in changed and can_restore(stage)}
    return Plan(nodes, changed, frozenset(restorable), recomposed(nodes, changed, project))


@contextmanager
def _repository(project: Project) -> Iterator[Any]:
    from dvc.exceptions import DvcException

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        repo = open_repository(project)
        try:
            yield repo
        finally:
            repo.close()
    except DvcException as error:
        raise ConfigError(f"DVC cannot read the pipeline: {error}") from None


def _is_of_pipeline(stage: Any) -> bool:
    """Whether DVC runs the stage. A file that `dvc add` tracks is a stage of DVC, too, but without a name."""
    return getattr(stage, "name", None) is not None


def _node(stage: Any, graph: Any, project: Project) -> Node:
    from dvc.dependency.param import ParamsDependency

    params: dict[str, Any] = {}
    deps: list[str] = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            for key, value in dep.read_params(flatten=True).items():
                params.update(flatten(value, key))
        else:
            deps.append(_relative(dep, project))
    return Node(
        name=stage.name,
        needs=tuple(sorted(needed.name for needed in graph.successors(stage) if _is_of_pipeline(needed))),
        params=params,
        deps=tuple(deps),
        outs=tuple(_relative(out, project) for out in stage.outs),
        meta=dict(stage.meta or {}),
    )


def _why(stage: Any) -> tuple[str, ...]:
    """DVC's reasons why a stage changed; empty if it did not."""
    from dvc.lock import LockError

    try:
        entries = [entry for group in stage.status().values() for entry in group]
    except LockError as error:  # another DVC process is running this stage
        return (str(error).partition("\n\n")[0].replace("\n", ""),)
    if entries and not any(dep.hash_info for dep in stage.deps):
        return ("never run",)
    return reasons_of(entries)


def _relative(output: Any, project: Project) -> str:
    path = Path(output.fs_path)
    return path.relative_to(project.root).as_posix() if path.is_relative_to(project.root) else str(path)


def reasons_of(entries: Iterable[Any]) -> tuple[str, ...]:
    """Converts DVC's status entries to messages.

    >>> reasons_of(["changed command", {"changed deps": {"params.yaml": {"base.steps": "modified"}, "data": "new"}}])
    ('command changed', 'params.yaml: base.steps modified', 'data new')
    """
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append("command changed" if entry == "changed command" else entry)
            continue
        for paths in entry.values():
            for path, change in paths.items():
                if isinstance(change, dict):
                    reasons += [f"{path}: {key} {key_change}" for key, key_change in change.items()]
                else:
                    reasons.append(f"{path} {'is missing' if change == 'deleted' else change}")
    return tuple(reasons)
