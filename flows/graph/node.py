"""One stage of dvc.yaml, and what its outputs hold."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, read_json
from cclm_core.runtime.config import canonical_json


@dataclass(frozen=True)
class Node:
    """One stage of dvc.yaml.

    Attributes:
        name: as DVC calls it, e.g. `pretrain@entities`.
        needs: names of the stages whose outputs it reads.
        params: the values of params.yaml that it depends on, flattened: `components.entities.objective`.
        deps: the paths that it reads, relative to the project; of a folder of parts, the parts alone.
        outs: the paths that it writes, relative to the project.
        meta: what dvc.yaml has under `meta:`.
        shares: names of the stages that write into a folder that it reads, but whose outputs are not among its `parts`
            (see `flows.graph.parts`): it does not need them, but cannot run at the same time.
        folders: the folders of parts that dvc.yaml names as its dependencies.
    """

    name: str
    needs: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    shares: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """The part of the name after the `@`: the component or composition; without an `@` the whole name.

        >>> Node("pretrain@entities").item
        'entities'
        """
        return self.name.rpartition("@")[2]

    @property
    def needs_device(self) -> bool:
        """Whether it may run only while it holds a device slot."""
        return bool(self.meta.get("resource") == "device")


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


def artifact_kind(folder: Path) -> str | None:
    """What a published folder's manifest says it holds, e.g. `component`; None if it is not a published folder."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    kind = read_json(manifest).get("kind")
    return str(kind) if kind else None
