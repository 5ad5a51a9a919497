"""Dependencies of compositions: a stage that depends on the folder of all components needs only its `parts`.

DVC cannot interpolate a list into `deps`, so a stage that reads some components in dvc.yaml depends on their folder. If
its parameters have a list `parts`, e.g. `compositions.full.parts: [entities, characters]`, it needs only the stages
with the outputs `FOLDER/entities` and `FOLDER/characters`. It still cannot run at the same time as the other stages:
DVC refuses a stage ("is busy, it is being blocked by") while another stage writes to a folder that it reads.
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

CARD = "card.json"  # of a composition; its `parts` are the digests of the parts, in order


def resolve_parts(nodes: Mapping[str, Node], project: Project) -> dict[str, Node]:
    """Replaces the folder dependency of each stage with `parts` by these parts.

    The stages that write other parts of the folder move from `needs` to `shares`.

    Raises:
        ConfigError: a part does not exist, and no stage produces it.
    """
    producers = {out: node.name for node in nodes.values() for out in node.outs}
    return {name: _resolve(node, producers, project) for name, node in nodes.items()}


def parts_of(node: Node) -> tuple[str, ...] | None:
    """The list `parts` in the stage's parameters; None if there is no such list."""
    for key, value in node.params.items():
        if key.rpartition(".")[2] == "parts" and isinstance(value, str) and value.startswith("["):
            return tuple(str(part) for part in json.loads(value))
    return None


def recomposed(nodes: Mapping[str, Node], changed: Mapping[str, tuple[str, ...]], project: Project) -> frozenset[str]:
    """The changed stages whose own parts are unchanged: only other outputs in the folder of parts differ.

    The parts are compared with the digests in the card of the composition. Stages without a card are left out.
    """
    return frozenset(name for name, reasons in changed.items() if _parts_unchanged(nodes[name], reasons, project))


def _parts_unchanged(node: Node, reasons: tuple[str, ...], project: Project) -> bool:
    if not node.folders or set(reasons) != {f"{folder} modified" for folder in node.folders}:
        return False
    paths = [project.root / f"{folder}/{part}" for folder in node.folders for part in parts_of(node) or ()]
    current = [folder_digest(path) for path in paths if artifact_kind(path)]
    cards = [project.root / out / CARD for out in node.outs]
    return all(card.is_file() and read_json(card).get("parts") == current for card in cards)


def _resolve(node: Node, producers: Mapping[str, str], project: Project) -> Node:
    parts = parts_of(node) or ()
    folders = tuple(dep for dep in node.deps if parts and any(out.startswith(f"{dep}/") for out in producers))
    if not folders:
        return node
    available = {out: name for out, name in producers.items() for folder in folders if out.startswith(f"{folder}/")}
    paths = []
    for part in parts:
        path = next((f"{folder}/{part}" for folder in folders if _exists(f"{folder}/{part}", producers, project)), None)
        if path is None:
            names = sorted({PurePosixPath(out).name for out in available})
            raise ConfigError(
                f"params.yaml: {node.name} has the part {part}, but no stage produces {folders[0]}/{part}; "
                f"{nearest(part, names)}"
            )
        paths.append(path)
    unused = set(available.values()) - {producers.get(path) for path in paths}
    return replace(
        node,
        needs=tuple(name for name in node.needs if name not in unused),
        deps=(*(dep for dep in node.deps if dep not in folders), *paths),
        shares=tuple(sorted(unused.intersection(node.needs))),
        folders=folders,
    )


def _exists(path: str, producers: Mapping[str, str], project: Project) -> bool:
    return path in producers or (project.root / path).exists()
