"""Compositions: stages that depend on a folder of components as a whole, but need only the components in `parts`.

DVC cannot interpolate a list into `deps`, so a stage of dvc.yaml that reads some of the outputs in a folder depends on
the folder. If its parameters contain a list `parts`, e.g. `compositions.full.parts: [entities, characters]`, it needs
only the stages whose outputs are `FOLDER/entities` and `FOLDER/characters`. The others it must not overlap with: DVC
refuses a stage ("is busy, it is being blocked by") while another writes into a folder that it reads.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from cclm_core.runtime.artifacts import folder_digest, read_json
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.node import Node, artifact_kind
from flows.project import Project

CARD = "card.json"  # has the digests of the parts that a composition was made from, in their order


def restrict(nodes: Mapping[str, Node], project: Project) -> dict[str, Node]:
    """The same stages; each with `parts` needs only those, and lists the other writers of the folder in `shares`.

    Raises:
        ConfigError: `parts` names something that no stage makes and that does not exist.
    """
    makers = {out: node.name for node in nodes.values() for out in node.outs}
    return {name: _restricted(node, makers, project) for name, node in nodes.items()}


def parts_of(node: Node) -> tuple[str, ...] | None:
    """The names in the stage's parameter `parts`; None if it has no such list."""
    for key, value in node.params.items():
        if key.rpartition(".")[2] == "parts" and isinstance(value, str) and value.startswith("["):
            return tuple(str(part) for part in json.loads(value))
    return None


def recomposed(nodes: Mapping[str, Node], changed: Mapping[str, tuple[str, ...]], project: Project) -> frozenset[str]:
    """The changed stages in which nothing changed but other outputs in the folder of their parts.

    The parts are compared with the digests in the card of the composition; without a card, nothing is assumed.
    """
    return frozenset(name for name, reasons in changed.items() if _parts_are_equal(nodes[name], reasons, project))


def _parts_are_equal(node: Node, reasons: tuple[str, ...], project: Project) -> bool:
    if not node.folders or set(reasons) != {f"{folder} modified" for folder in node.folders}:
        return False
    paths = [project.root / f"{folder}/{part}" for folder in node.folders for part in parts_of(node) or ()]
    present = [folder_digest(path) for path in paths if artifact_kind(path)]
    cards = [project.root / out / CARD for out in node.outs]
    return all(card.is_file() and read_json(card).get("parts") == present for card in cards)


def _restricted(node: Node, makers: Mapping[str, str], project: Project) -> Node:
    parts = parts_of(node) or ()
    folders = tuple(dep for dep in node.deps if parts and any(out.startswith(f"{dep}/") for out in makers))
    if not folders:
        return node
    within = {out: name for out, name in makers.items() for folder in folders if out.startswith(f"{folder}/")}
    paths = []
    for part in parts:
        path = next((f"{folder}/{part}" for folder in folders if _exists(f"{folder}/{part}", makers, project)), None)
        if path is None:
            known = sorted({PurePosixPath(out).name for out in within})
            raise ConfigError(
                f"params.yaml: {node.name} has the part {part}, but no stage makes {folders[0]}/{part}; "
                f"{nearest(part, known)}"
            )
        paths.append(path)
    others = set(within.values()) - {makers.get(path) for path in paths}
    return replace(
        node,
        needs=tuple(name for name in node.needs if name not in others),
        deps=(*(dep for dep in node.deps if dep not in folders), *paths),
        shares=tuple(sorted(others.intersection(node.needs))),
        folders=folders,
    )


def _exists(path: str, makers: Mapping[str, str], project: Project) -> bool:
    return path in makers or (project.root / path).exists()
