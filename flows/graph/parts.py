"""Stages that depend on a whole folder of outputs, but use only some of them.

DVC cannot turn values of params.yaml into `deps`, so a composition depends on the folder of all components, a task on
the folders of all compositions and of all labeled sets, and an ensemble on those of all tasks and of all labeled sets.
The flow reads what they use:

| key | uses |
|---|---|
| a list `parts`, e.g. `compositions.full.parts: [entities, characters]` | `FOLDER/entities`, `FOLDER/characters` |
| `tasks.NAME.composition: full` | `FOLDER/full` of the folder in which the stages for `compositions` write |
| `tasks.NAME.data: tickets` | `FOLDER/tickets` of the folder in which the stages for `labeled` write |
| `ensembles.NAME.parts: [a, b]` | `FOLDER/a`, `FOLDER/b` of the folder of tasks, and the labeled sets that these use |

So a stage needs only the stages that make these parts. It still cannot run at the same time as the others: DVC refuses
a stage ("is busy, it is being blocked by") while another stage writes to a folder that it reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from cclm_core.runtime.artifacts import folder_digest, read_json
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.readers import parse_json
from flows.graph.node import Node, artifact_kind
from flows.project import Project

CARD = "card.json"  # of a composition or a trained model, with the digests of what it was made from
RESULTS_CARD = "evaluation.json"  # of results
REFERENCES = {"data": "labeled", "composition": "compositions"}
"""Key of a task -> the section whose stages make what it names."""


def resolve_parts(nodes: Mapping[str, Node], project: Project) -> dict[str, Node]:
    """Replaces the folder dependencies of each stage by the parts of these folders that it uses.

    The stages that write other parts of the folder move from `needs` to `shares`.

    Raises:
        ConfigError: a part does not exist, and no stage produces it.
    """
    producers = {out: node for node in nodes.values() for out in node.outs}
    return {name: _resolve(node, producers, project) for name, node in nodes.items()}


def parts_of(node: Node) -> tuple[str, ...] | None:
    """The list `parts` in the stage's parameters; None if there is no such list."""
    for key, value in node.params.items():
        if key.rpartition(".")[2] == "parts" and isinstance(value, str) and value.startswith("["):
            return tuple(str(part) for part in parse_json(value, key))
    return None


def recomposed(nodes: Mapping[str, Node], changed: Mapping[str, tuple[str, ...]], project: Project) -> frozenset[str]:
    """The changed stages whose own parts are unchanged: only other outputs in the folder of parts differ.

    The parts are compared with the digests in the cards of the outputs. Stages without a card are left out.
    """
    return frozenset(name for name, reasons in changed.items() if parts_unchanged(nodes[name], reasons, project))


def parts_unchanged(node: Node, reasons: Iterable[str], project: Project) -> bool:
    """Whether a stage has changed only because of parts that it does not use.

    Args:
        node: the stage.
        reasons: why DVC considers it changed; see `flows.graph.plan.reasons_of`.
    """
    reasons = set(reasons)
    if not node.folders or not reasons <= {f"{folder} modified" for folder in node.folders}:
        return False
    paths = [project.root / path for path in node.parts]
    current = [folder_digest(path) for path in paths if artifact_kind(path)]
    cards = [card for out in node.outs if (card := _card(project, out)) is not None]
    return len(current) == len(paths) and bool(cards) and all(_made_from(card, current) for card in cards)


def _made_from(card: Mapping[str, Any], digests: list[str]) -> bool:
    """Whether the card of an output names exactly these digests of its parts, in their order."""
    named = {value for value in card.values() if isinstance(value, str)}
    listed = [digest for digest in digests if digest not in named]
    return bool(listed == card.get("parts", []))


def _card(project: Project, out: str) -> dict[str, Any] | None:
    for name in (CARD, RESULTS_CARD):
        path = project.root / out / name
        if path.is_file():
            return read_json(path)
    return None


def _resolve(node: Node, producers: Mapping[str, Node], project: Project) -> Node:
    candidates = {folder: _used(node, folder, producers) for folder in node.deps}
    used = {folder: names for folder, names in candidates.items() if names is not None}
    if not used:
        return node
    available = {out: maker.name for out, maker in producers.items() for folder in used if out.startswith(f"{folder}/")}
    paths = []
    for part in dict.fromkeys(name for names in used.values() for name in names):
        folders = [folder for folder, names in used.items() if part in names]
        existing = [path for folder in folders if _exists(path := f"{folder}/{part}", producers, project)]
        if not existing:
            known = sorted({PurePosixPath(out).name for out in available})
            raise ConfigError(
                f"params.yaml: {node.name} has the part {part}, but no stage produces {folders[0]}/{part}; "
                f"{nearest(part, known)}"
            )
        paths += existing if node.is_of_task else existing[:1]
    unused = set(available.values()) - {producers[path].name for path in paths if path in producers}
    return replace(
        node,
        needs=tuple(name for name in node.needs if name not in unused),
        deps=(*(dep for dep in node.deps if dep not in used), *paths),
        shares=tuple(sorted(unused.intersection(node.needs))),
        folders=tuple(used),
        parts=tuple(paths),
    )


def _used(node: Node, folder: str, producers: Mapping[str, Node]) -> tuple[str, ...] | None:
    """The names in a folder that a stage uses; None if it is no folder of parts, so that the stage uses all of it."""
    makers = [maker for out, maker in producers.items() if out.startswith(f"{folder}/")]
    if not makers:
        return None
    if node.is_of_task:
        sections = {key.partition(".")[0] for maker in makers for key in maker.params}
        used = {section: names for section, names in _referenced(node, producers).items() if section in sections}
        return next(iter(used.values())) if len(used) == 1 else None
    return parts_of(node) or None


def _referenced(node: Node, producers: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    """Section -> the names in it that a task or an ensemble uses, if any."""
    if any(key.startswith("ensembles.") for key in node.params):
        tasks = parts_of(node) or ()
        makers = [
            maker for maker in producers.values() if maker.item in tasks and f"tasks.{maker.item}.data" in maker.params
        ]
        data = dict.fromkeys(name for maker in makers for name in _referenced(maker, producers)[REFERENCES["data"]])
        return {"tasks": tasks, REFERENCES["data"]: tuple(data)}
    names: dict[str, tuple[str, ...]] = dict.fromkeys(REFERENCES.values(), ())
    for key, value in node.params.items():
        section, _, rest = key.partition(".")
        reference = rest.rpartition(".")[2]
        if section == "tasks" and rest.count(".") == 1 and reference in REFERENCES and value is not None:
            names[REFERENCES[reference]] = (str(value),)
    return names


def _exists(path: str, producers: Mapping[str, Node], project: Project) -> bool:
    return path in producers or (project.root / path).exists()
