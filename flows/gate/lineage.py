"""Where a composition, a component or any other result comes from: digests, parameters, and the runs that made it.

The card of a result has the digests of what it was made from; MLflow knows which run published a digest.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from cclm_core.runtime.artifacts import folder_digest, read_json
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.evaluations import Evaluation
from flows.graph.node import Node, artifact_kind, flatten
from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.tracking.client import Tracking, guarded

PARENT_TAG = "cclm.parent"  # the digest of the version that a retrained component takes the place of
OUT_TAG = "digest.out."


@dataclass(frozen=True)
class Run:
    """A run of a stage in MLflow: its id, when it began (Unix seconds), the git commit, and what it replaced."""

    id: str
    started: float
    commit: str
    parent: str | None


@dataclass(frozen=True)
class Origin:
    """A result, and what it was made from.

    Attributes:
        name: e.g. `entities`, `full`, `encoded`.
        kind: what its folder holds, e.g. `component`.
        stage: the stage of dvc.yaml that makes it.
        digest: of its folder.
        here: whether the project's folder holds exactly this result; otherwise its own origins are unknown.
        facts: from its card: the vocabulary, the code, the configuration.
        run: the newest run that published this digest; None where MLflow knows none.
        made_from: the results that it was made from.
    """

    name: str
    kind: str
    stage: str
    digest: str
    here: bool
    facts: dict[str, Any] = field(default_factory=dict)
    run: Run | None = None
    made_from: tuple["Origin", ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def all(self) -> Iterator["Origin"]:
        """This one and everything below it."""
        yield self
        for origin in self.made_from:
            yield from origin.all()


class Lineage:
    """Finds origins in a project.

    Args:
        tracking: where to ask for runs; None to name none.
    """

    def __init__(self, project: Project, plan: Plan, tracking: Tracking | None) -> None:
        self.project, self.plan, self.tracking = project, plan, tracking
        self._makers = {out: node for node in plan.nodes.values() for out in node.outs}

    def of(self, name: str) -> Origin:
        """The origin of a composition, a component, or another result, by its name or its stage's.

        Raises:
            ConfigError: no stage makes such a result, or it is not there.
        """
        kinds = {"composition": 0, "component": 1}
        found = [
            (kinds.get(artifact_kind(self.project.root / path) or "", 2), path)
            for path, node in self._makers.items()
            if name == node.name or (name == node.item and artifact_kind(self.project.root / path) != "evaluation")
        ]
        if not found:
            names = sorted({node.item for node in self._makers.values()})
            raise ConfigError(f"{name} is not a composition or a component of dvc.yaml; {nearest(name, names)}")
        path = min(found)[1]
        if artifact_kind(self.project.root / path) is None:
            raise ConfigError(f"{path} not found, so its origin is unknown. Run `cclm run` or `dvc pull`.")
        return self.at(path, folder_digest(self.project.root / path))

    def at(self, path: str, digest: str) -> Origin:
        """The origin of the result with this digest that a stage publishes, or once published, at this path.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        folder, node = self.project.root / path, self._makers[path]
        kind = artifact_kind(folder)
        name = node.item if "@" in node.name else Path(path).name
        run = newest_run(self.tracking, path, digest) if self.tracking else None
        if kind is None or folder_digest(folder) != digest:
            return Origin(name, kind or "unknown", node.name, digest, False, run=run)
        card = _card(folder)
        return Origin(name, kind, node.name, digest, True, _facts(card), run, tuple(self._below(node, card)))

    def _below(self, node: Node, card: Mapping[str, Any]) -> Iterator[Origin]:
        for path in node.deps:
            kind = artifact_kind(self.project.root / path) if path in self._makers else None
            digest = kind and _read_then(card, path, kind, folder_digest(self.project.root / path))
            if digest:
                yield self.at(path, digest)


def newest_run(tracking: Tracking, path: str, digest: str) -> Run | None:
    """The newest finished run that published this digest at this path.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with guarded():
        found = tracking.client.search_runs(
            [tracking.experiment_id],
            f"tags.`{OUT_TAG}{path}` = '{digest}' and attributes.status = 'FINISHED'",
            max_results=1,
            order_by=["start_time DESC"],
        )
    if not found:
        return None
    info, tags = found[0].info, found[0].data.tags
    commit = tags.get("mlflow.source.git.commit", "")
    return Run(str(info.run_id), info.start_time / 1000, commit, tags.get(PARENT_TAG))


def registration_tags(project: Project, tracking: Tracking, evaluation: Evaluation) -> dict[str, str]:
    """Tags for a registered version: digest and run of everything that the composition was made from.

    `cclm.base`, `cclm.base.run`, `cclm.component.NAME`, `cclm.component.NAME.run`, and so on for the data.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    path = evaluation.composition.relative_to(project.root).as_posix()
    top = Lineage(project, read_plan(project, changes=False), tracking).at(path, folder_digest(evaluation.composition))
    tags = {"cclm.composition.run": top.run.id} if top.run else {}
    results = evaluation.results.relative_to(project.root).as_posix()
    if measured := newest_run(tracking, results, folder_digest(evaluation.results)):
        tags["cclm.evaluation.run"] = measured.id
    for origin in list(top.all())[1:]:
        one_of_several = origin.kind in ("component", "composition")
        key = f"cclm.{origin.kind}.{origin.name}" if one_of_several else f"cclm.{origin.name}"
        tags[key] = origin.digest
        if origin.run:
            tags[f"{key}.run"] = origin.run.id
    return tags


def _card(folder: Path) -> dict[str, Any]:
    path = folder / "card.json"
    card: dict[str, Any] = read_json(path) if path.is_file() else {}
    if (folder / "composition.json").is_file():
        card["names"] = read_json(folder / "composition.json")["parts"]
    return card


def _read_then(card: Mapping[str, Any], path: str, kind: str, present: str) -> str | None:
    """The digest of what a stage read at `path`, from its card; the present digest if the card has none."""
    parts = card.get("parts", [])
    if present in (card.get("data"), card.get("base"), *parts):
        return present
    if kind == "encoded":
        return str(card.get("data", present))
    named = dict(zip(card.get("names", ()), parts, strict=False))
    if parts and Path(path).name in named:
        return str(named[Path(path).name])
    if "base" in card and kind in ("embedder", "composition"):
        return str(card["base"])
    return None if parts else present


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in ("seed", "vocabulary", "code", "configuration", "noise") if name in card}


def tree(top: Origin) -> Tree:
    """The lineage for a reader, everything once."""
    return _branch(top, Tree(_line(top)), set())


def _branch(origin: Origin, branch: Tree, seen: set[str]) -> Tree:
    if origin.digest in seen and origin.made_from:
        branch.add("(as above)")
        return branch
    seen.add(origin.digest)
    if origin.run:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(origin.run.started))
        replaced = f", replacing {origin.run.parent[:12]}" if origin.run.parent else ""
        branch.add(f"made by run {origin.run.id} on {when}, commit {origin.run.commit[:12] or 'unknown'}{replaced}")
    for name in ("vocabulary", "code"):
        if name in origin.facts:
            branch.add(f"{name} {origin.facts[name][:12]}")
    if "configuration" in origin.facts:
        values = flatten(origin.facts["configuration"])
        branch.add("[dim]" + escape(", ".join(f"{name} {value}" for name, value in values.items())) + "[/dim]")
    for below in origin.made_from:
        _branch(below, branch.add(_line(below)), seen)
    return branch


def _line(origin: Origin) -> str:
    gone = "" if origin.here else ", which is no longer in the project's folder"
    return f"{origin.kind} [bold]{escape(origin.name)}[/bold] {origin.digest[:12]} ({origin.stage}){gone}"
