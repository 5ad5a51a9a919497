"""`cclm fork`: a published component as an independent one, with its own copy of the base."""

import shutil
from pathlib import Path

from cclm_core.composition.store import load_base, load_component, write
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json

KEPT = ("head.safetensors", "curve.csv")
"""Files of a component that are equally valid for its fork."""

TRAINING = ("data", "configuration", "noise")
"""Keys of a component's card.json that tell how its head was trained, which `cclm generate` and `correct` need."""


def fork(component: Path, base: Path, out: Path) -> str:
    """Forks the component in `component` from `base`, publishes it at `out`, and returns a summary in one line.

    Raises:
        CclmError: a folder is missing or damaged, the component is independent already, or was trained on another base;
            `out` is left as it was.
    """
    inputs = {"component": verify(component, "component"), "base": verify(base, "embedder", "composition")}
    forked = load_component(component).fork(load_base(base))
    number = sum(parameter.numel() for parameter in forked.parameters())
    old = {name: read_json(component / name) for name in ("card.json", "metrics.json") if (component / name).is_file()}
    training = {key: value for key, value in old.get("card.json", {}).items() if key in TRAINING}
    with publishing(out, "component") as folder:
        write(forked, folder)
        for name in KEPT:
            if (component / name).is_file():
                shutil.copyfile(component / name, folder / name)
        write_json(folder / "card.json", {"data": None, **training, **inputs, "stage": "fork"})
        write_json(folder / "metrics.json", {**old.get("metrics.json", {}), "parameters": number})
    return f"{out} holds {forked.name!r} with its own copy of {base}: {number:,} weights, independent of any base."
