"""The lineage of a composition, a task, a component or any other result: digests, parameters, and MLflow runs.

The card of a result lists the digests of its inputs. MLflow has the run that published each digest.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from cclm_core.runtime.artifacts import folder_digest, read_json
from cclm_core.runtime.config import canonical_json, nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.evaluations import Evaluation
from flows.graph.node import Node, artifact_kind, flatten
from flows.graph.plan import Plan, read_plan
from flows.project import Project
from flows.tracking.client import Tracking, guarded

PARENT_TAG = "cclm.parent"  # the digest of the component that a retrained component replaces
OUT_TAG = "digest.out."
LINEAGE_TAG = "cclm.lineage"  # of a registered version


@dataclass(frozen=True)
class Run:
    """The MLflow run of a stage.

    Attributes:
        id: run ID.
        started: Unix seconds.
        commit: git commit; "" if unknown.
        parent: digest of the component that this run retrained; None if it did not retrain one.
    """

    id: str
    started: float
    commit: str
    parent: str | None


@dataclass(frozen=True)
class Origin:
    """A result and its inputs.

    Attributes:
        name: e.g. `entities`, `full`, `encoded`.
        kind: kind of its folder, e.g. `component`.
        stage: the stage of dvc.yaml that produces it.
        digest: digest of its folder.
        here: whether this version is in the project's folder. If not, its own inputs are unknown.
        facts: from its card: digests of vocabulary and code, the seed, the configuration.
        run: the newest MLflow run that published this digest; None if MLflow has none.
        made_from: its inputs.
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
        """The lineage as JSON-compatible values."""
        return asdict(self)

    def walk(self) -> Iterator["Origin"]:
        """This result, its inputs, their inputs, and so on."""
        yield self
        for origin in self.made_from:
            yield from origin.walk()


class Lineage:
    """Looks up the lineage of results in a project.

    Args:
        tracking: where to look up runs; None to leave them out.
    """

    def __init__(self, project: Project, plan: Plan, tracking: Tracking | None) -> None:
        self.project, self.plan, self.tracking = project, plan, tracking
        self._producers = {out: node for node in plan.nodes.values() for out in node.outs}

    def of(self, name: str) -> Origin:
        """The lineage of a result, by its name or the name of its stage.

        If several results have the same name, compositions and tasks take precedence over components, and these over
        the rest.

        Raises:
            ConfigError: no stage produces such a result, or it does not exist yet.
        """
        ranks = {"composition": 0, "task": 0, "component": 1}
        matches = [
            (ranks.get(artifact_kind(self.project.root / path) or "", 2), path)
            for path, node in self._producers.items()
            if name == node.name or (name == node.item and artifact_kind(self.project.root / path) != "evaluation")
        ]
        if not matches:
            names = sorted({node.item for node in self._producers.values()})
            raise ConfigError(f"{name} is not a composition, a task or a component of dvc.yaml; {nearest(name, names)}")
        path = min(matches)[1]
        if artifact_kind(self.project.root / path) is None:
            raise ConfigError(f"{path} not found, so its lineage is unknown. Run `cclm run` or `dvc pull`.")
        return self.at(path, folder_digest(self.project.root / path))

    def at(self, path: str, digest: str) -> Origin:
        """The lineage of the current or an earlier version of an output.

        Args:
            path: an output of a stage, relative to the project.
            digest: digest of the version.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        folder, node = self.project.root / path, self._producers[path]
        kind = artifact_kind(folder)
        name = node.item if "@" in node.name else Path(path).name
        run = newest_run(self.tracking, path, digest) if self.tracking else None
        if kind is None or folder_digest(folder) != digest:
            return Origin(name, kind or "unknown", node.name, digest, False, run=run)
        card = _card(folder)
        return Origin(name, kind, node.name, digest, True, _facts(card), run, tuple(self._inputs(node, card)))

    def _inputs(self, node: Node, card: Mapping[str, Any]) -> Iterator[Origin]:
        for path in node.deps:
            kind = artifact_kind(self.project.root / path) if path in self._producers else None
            digest = kind and _input_digest(card, path, kind, folder_digest(self.project.root / path))
            if digest:
                yield self.at(path, digest)


def newest_run(tracking: Tracking, path: str, digest: str) -> Run | None:
    """The newest finished run that published a digest at a path; None if there is no such run.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with guarded():
        runs = tracking.client.search_runs(
            [tracking.experiment_id],
            f"tags.`{OUT_TAG}{path}` = '{digest}' and attributes.status = 'FINISHED'",
            max_results=1,
            order_by=["start_time DESC"],
        )
    if not runs:
        return None
    info, tags = runs[0].info, runs[0].data.tags
    commit = tags.get("mlflow.source.git.commit", "")
    return Run(str(info.run_id), info.start_time / 1000, commit, tags.get(PARENT_TAG))


def registration_tags(project: Project, tracking: Tracking, evaluation: Evaluation) -> dict[str, str]:
    """Tags for a registered version: the runs that made and measured it, and the lineage as one tag in JSON.

    The lineage has the digest and the run of everything that the model was made from, by `base`, `corpus`,
    `component.NAME` and so on.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    path = evaluation.model.relative_to(project.root).as_posix()
    top = Lineage(project, read_plan(project, changes=False), tracking).at(path, folder_digest(evaluation.model))
    tags = {f"cclm.{evaluation.kind}.run": top.run.id} if top.run else {}
    results = evaluation.results.relative_to(project.root).as_posix()
    if evaluation_run := newest_run(tracking, results, folder_digest(evaluation.results)):
        tags["cclm.evaluation.run"] = evaluation_run.id
    lineage: dict[str, dict[str, str]] = {}
    for origin in list(top.walk())[1:]:
        is_named = origin.kind in ("component", "composition", "labeled", "task")
        key = f"{origin.kind}.{origin.name}" if is_named else origin.name
        lineage[key] = {"digest": origin.digest} | ({"run": origin.run.id} if origin.run else {})
    return tags | {LINEAGE_TAG: canonical_json(lineage)}


def _card(folder: Path) -> dict[str, Any]:
    path = folder / "card.json"
    card: dict[str, Any] = read_json(path) if path.is_file() else {}
    if (folder / "composition.json").is_file():
        card["names"] = read_json(folder / "composition.json")["parts"]
    return card


def _input_digest(card: Mapping[str, Any], path: str, kind: str, current: str) -> str | None:
    """The digest that a stage read at `path` according to its card; the current digest if the card has none."""
    parts = card.get("parts", [])
    if current in (card.get("data"), card.get("base"), *parts):
        return current
    if card.get("stage") in ("finetune", "fuse") and kind in ("labeled", "encoded"):
        if kind == "labeled":
            return str(card.get("data", current))
        # The vocabulary is that of the composition, and counted n-grams have none.
        return None if "base" in card or "vocabulary" not in card else current
    if kind == "encoded":
        return str(card.get("data", current))
    digests = dict(zip(card.get("names", ()), parts, strict=False))
    if parts and Path(path).name in digests:
        return str(digests[Path(path).name])
    if "base" in card and kind in ("embedder", "composition"):
        return str(card["base"])
    return None if parts else current


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in ("seed", "vocabulary", "code", "configuration", "noise") if name in card}


def tree(top: Origin) -> Tree:
    """The lineage as a tree for the terminal. The inputs of each result are shown only once."""
    return _branch(top, Tree(_line(top)), set())


def _branch(origin: Origin, branch: Tree, seen: set[str]) -> Tree:
    if origin.digest in seen and origin.made_from:
        branch.add("(see above)")
        return branch
    seen.add(origin.digest)
    if origin.run:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(origin.run.started))
        replaced = f", replacing {origin.run.parent[:12]}" if origin.run.parent else ""
        commit = origin.run.commit[:12] or "unknown"
        branch.add(f"MLflow run {origin.run.id}, started {when}, commit {commit}{replaced}")
    for name in ("vocabulary", "code"):
        if name in origin.facts:
            branch.add(f"{name} {origin.facts[name][:12]}")
    if "configuration" in origin.facts:
        values = flatten(origin.facts["configuration"])
        branch.add("[dim]" + escape(", ".join(f"{name} {value}" for name, value in values.items())) + "[/dim]")
    for part in origin.made_from:
        _branch(part, branch.add(_line(part)), seen)
    return branch


def _line(origin: Origin) -> str:
    missing = "" if origin.here else ", no longer in the project's folder"
    return f"{origin.kind} [bold]{escape(origin.name)}[/bold] {origin.digest[:12]} (stage {origin.stage}){missing}"
