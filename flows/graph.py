"""The plan, read from DVC: stages, what each needs, what changed and why. There is no second graph."""

import fnmatch
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, read_json
from cclm_core.runtime.config import canonical_json, nearest
from cclm_core.runtime.errors import ConfigError


@dataclass(frozen=True)
class Node:
    """One stage of dvc.yaml.

    Attributes:
        name: as DVC calls it, e.g. `pretrain@entities`.
        needs: names of the stages whose outputs it reads.
        params: the values of params.yaml that it depends on, flattened: `components.entities.objective`.
        deps: the paths that it reads, relative to the project.
        outs: the paths that it writes, relative to the project.
        meta: what dvc.yaml says under `meta:`.
    """

    name: str
    needs: tuple[str, ...]
    params: dict[str, Any]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    meta: dict[str, Any]

    @property
    def item(self) -> str:
        """What stands behind the `@`: the component, the composition; else the stage's name.

        >>> Node("pretrain@entities", (), {}, (), (), {}).item
        'entities'
        """
        return self.name.rpartition("@")[2]

    @property
    def needs_device(self) -> bool:
        """Whether it may run only while it holds a device slot."""
        return bool(self.meta.get("resource") == "device")


@dataclass(frozen=True)
class Plan:
    """The stages in an order in which they can run, and why each of those that changed would run again.

    Attributes:
        nodes: by name, every stage after those that it needs.
        changed: stage name -> reasons, for the stages that DVC itself calls changed.
        restorable: those of them whose present inputs DVC's cache has results for: they need not run.
    """

    nodes: dict[str, Node]
    changed: dict[str, tuple[str, ...]]
    restorable: frozenset[str] = frozenset()

    def stale(self) -> dict[str, tuple[str, ...]]:
        """What a run would look at: the changed stages and all that comes after them, in order, with reasons."""
        reasons: dict[str, tuple[str, ...]] = {}
        for name, node in self.nodes.items():
            after = tuple(f"after {need}" for need in node.needs if need in reasons)
            if why := self.changed.get(name, ()) + after:
                reasons[name] = why
        return reasons

    def select(self, targets: Iterable[str]) -> dict[str, Node]:
        """The stages that `targets` name (`pretrain`, `pretrain@entities`, `pretrain@*`) and all that they need.

        Raises:
            ConfigError: a target names no stage.
        """
        wanted = set(self.match(targets)) if targets else set(self.nodes)
        for name in reversed(self.nodes):
            if name in wanted:
                wanted.update(self.nodes[name].needs)
        return {name: node for name, node in self.nodes.items() if name in wanted}

    def match(self, targets: Iterable[str]) -> list[str]:
        """The names of the stages that `targets` name, in order.

        Raises:
            ConfigError: a target names no stage.
        """
        found: set[str] = set()
        for target in targets:
            names = [name for name in self.nodes if target in (name, name.partition("@")[0])]
            names = names or fnmatch.filter(self.nodes, target)
            if not names:
                raise ConfigError(f"{target} must be a stage of dvc.yaml; {nearest(target, list(self.nodes))}")
            found.update(names)
        return [name for name in self.nodes if name in found]


def read_plan(root: Path, changes: bool = True) -> Plan:
    """Asks DVC for the graph of the project at `root` and, unless told otherwise, for what changed.

    Raises:
        ConfigError: dvc.yaml or params.yaml is wrong.
    """
    from dvc.repo import lock_repo

    # DVC forgets its index whenever it takes its lock: one lock for all that is asked reads dvc.yaml once.
    with _repository(root) as repo, lock_repo(repo):
        import networkx  # type: ignore[import-untyped]

        graph = repo.index.graph
        order = list(networkx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.name))
        nodes = {stage.name: _node(stage, graph, root) for stage in order if getattr(stage, "name", None)}
        stages = [stage for stage in order if stage.name in nodes] if changes else []
        changed = {stage.name: why for stage in stages if (why := _why(stage))}
        restorable = {stage.name for stage in stages if stage.name in changed and _is_restorable(stage)}
    return Plan(nodes, changed, frozenset(restorable))


@dataclass(frozen=True)
class Evaluation:
    """A composition and where it was measured.

    Attributes:
        name: the composition's name.
        compose: the stage that makes it.
        evaluate: the stage that measures it.
        composition: folder of the composition.
        results: folder with metrics.json.
        data: folders that it was measured on.
        untrained: whether its components are untrained, as a control.
    """

    name: str
    compose: Node
    evaluate: Node
    composition: Path
    results: Path
    data: tuple[Path, ...]
    untrained: bool


def evaluations(plan: Plan, root: Path) -> list[Evaluation]:
    """Every composition that has been measured, found by what the outputs' manifests say they are."""
    makers = {out: node for node in plan.nodes.values() for out in node.outs}
    found = []
    for node in plan.nodes.values():
        results = [out for out in node.outs if artifact_kind(root / out) == "evaluation"]
        for dep in node.deps:
            if results and dep in makers and artifact_kind(root / dep) == "composition":
                compose = makers[dep]
                data = tuple(root / other for other in node.deps if other != dep)
                untrained = any(key.endswith(".untrained") and value for key, value in compose.params.items())
                found.append(Evaluation(compose.item, compose, node, root / dep, root / results[0], data, untrained))
    return found


def artifact_kind(folder: Path) -> str | None:
    """What a published folder's manifest says it holds, e.g. `component`; None where there is no such folder."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    kind = read_json(manifest).get("kind")
    return str(kind) if kind else None


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dots between the keys; lists become JSON.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}})
    {'a.b': 1, 'a.c': '[1,2]'}
    """
    if not isinstance(values, dict):
        return {prefix: canonical_json(values) if isinstance(values, list) else values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


@contextmanager
def _repository(root: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        repo = Repo(str(root), _wait_for_lock=True)
        try:
            yield repo
        finally:
            repo.close()
    except DvcException as error:
        raise ConfigError(f"DVC cannot read the pipeline: {error}") from None


def _node(stage: Any, graph: Any, root: Path) -> Node:
    from dvc.dependency.param import ParamsDependency

    params: dict[str, Any] = {}
    deps: list[str] = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            for key, value in dep.read_params(flatten=True).items():
                params.update(flatten(value, key))
        else:
            deps.append(_relative(dep, root))
    return Node(
        name=stage.name,
        needs=tuple(sorted(other.name for other in graph.successors(stage))),
        params=params,
        deps=tuple(deps),
        outs=tuple(_relative(out, root) for out in stage.outs),
        meta=dict(stage.meta or {}),
    )


def _why(stage: Any) -> tuple[str, ...]:
    """Why DVC calls a stage changed; nothing when it does not."""
    from dvc.lock import LockError

    try:
        entries = [entry for found in stage.status().values() for entry in found]
    except LockError as error:  # another DVC works on it
        return (str(error).partition("\n\n")[0].replace("\n", ""),)
    if entries and not any(dep.hash_info for dep in stage.deps):
        return ("never run",)
    return _reasons(entries)


def _is_restorable(stage: Any) -> bool:
    """Whether DVC has kept what this stage made of the inputs as they are now: it asks as `dvc repro` does."""
    from dvc.exceptions import DvcException

    try:
        if stage.changed_stage() or not stage.deps_cached():
            stage.save_deps()
            for out in stage.outs:  # of the inputs that dvc.lock knows, not of these
                out.clear()
        stage.repo.stage_cache.restore(stage, dry=True)
    except DvcException:
        return False
    return True


def _relative(output: Any, root: Path) -> str:
    path = Path(output.fs_path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _reasons(entries: list[Any]) -> tuple[str, ...]:
    """DVC's status entries in words.

    >>> _reasons(["changed command", {"changed deps": {"params.yaml": {"base.steps": "modified"}, "data": "new"}}])
    ('command changed', 'params.yaml: base.steps modified', 'data new')
    """
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append("command changed" if entry == "changed command" else entry)
            continue
        for paths in entry.values():
            for path, what in paths.items():
                if isinstance(what, dict):
                    reasons += [f"{path}: {key} {change}" for key, change in what.items()]
                else:
                    reasons.append(f"{path} {'is missing' if what == 'deleted' else what}")
    return tuple(reasons)
