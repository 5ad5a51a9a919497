"""A stage of dvc.yaml, and the kind of an output folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, read_json
from cclm_core.runtime.config import canonical_json


@dataclass(frozen=True)
class Node:
    """A stage of dvc.yaml. All paths are relative to the project's root.

    Attributes:
        name: DVC's name of the stage, e.g. `pretrain@entities`.
        needs: names of the stages whose outputs it reads.
        params: values in params.yaml that it depends on, by dotted key: `components.entities.objective`.
        deps: paths that it reads. If a dependency is a folder of parts, only the parts that it uses.
        outs: paths that it writes.
        meta: the `meta` section of the stage in dvc.yaml.
        shares: names of the stages that write to a folder it reads without being one of its `parts` (see
            `flows.graph.parts`). It does not need them, but cannot run at the same time.
        folders: folders of parts among its dependencies in dvc.yaml.
        parts: paths in these folders that it uses.
    """

    name: str
    needs: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    shares: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """The component, composition or task of the stage: the name after the `@`, or the whole name if it has no `@`.

        >>> Node("pretrain@entities").item
        'entities'
        """
        return self.name.rpartition("@")[2]

    @property
    def is_of_task(self) -> bool:
        """Whether it trains or tests a task or an ensemble of tasks: it reads keys of `tasks` or `ensembles`."""
        return any(key.startswith(("tasks.", "ensembles.")) for key in self.params)

    @property
    def is_summary(self) -> bool:
        """Whether the stage only describes what the others have made, so that it can run while some are stale."""
        return bool(self.meta.get("summary"))

    @property
    def needs_device(self) -> bool:
        """Whether the stage must hold a device slot while it runs."""
        return bool(self.meta.get("resource") == "device")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to dotted keys. Lists become JSON strings.

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
    """The `kind` in the manifest of a published folder, e.g. `component`; None if the folder has no manifest."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    kind = read_json(manifest).get("kind")
    return str(kind) if kind else None
