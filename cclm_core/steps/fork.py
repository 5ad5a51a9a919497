"""`cclm fork`: a published component as an independent one, with its own copy of the base."""

import shutil
from pathlib import Path

from cclm_core.composition.component import Component
from cclm_core.composition.store import load_base
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json

KEPT = ("head.safetensors", "curve.csv")
"""What stands beside the weights of a component and is as true of its fork."""


def fork(component: Path, base: Path, out: Path) -> str:
    """Forks the component at `component` from `base`, publishes it at `out`, and returns a line that says so.

    Raises:
        CclmError: a folder is missing or damaged, the component is independent already, or belongs to another base;
            `out` is left as it was.
    """
    about = {"component": verify(component, "component"), "base": verify(base, "embedder", "composition")}
    forked = Component.load(component).fork(load_base(base))
    number = sum(parameter.numel() for parameter in forked.parameters())
    old = {name: read_json(component / name) for name in ("card.json", "metrics.json") if (component / name).is_file()}
    with publishing(out, "component") as folder:
        forked.save(folder)
        for name in KEPT:
            if (component / name).is_file():
                shutil.copyfile(component / name, folder / name)
        write_json(folder / "card.json", {**about, "stage": "fork", "data": old.get("card.json", {}).get("data")})
        write_json(folder / "metrics.json", {**old.get("metrics.json", {}), "parameters": number})
    return f"{out} holds {forked.name!r} with its own copy of {base}: {number:,} weights, independent of any base."
