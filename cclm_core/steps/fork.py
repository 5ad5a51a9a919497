"""`cclm fork`: makes a published component independent, with its own copy of the base."""

import shutil
from pathlib import Path

from cclm_core.cards import write_card
from cclm_core.composition.store import load_base, load_component, write
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json

COPIED_FILES = ("head.safetensors", "curve.csv")
"""Files of a component that are valid for its fork too."""

COPIED_KEYS = ("data", "configuration", "noise")
"""Keys of a component's card.json that describe the training of its head. `cclm generate` and `correct` need them."""


def fork(component: Path, base: Path, out: Path) -> str:
    """Publishes a fork of a component that needs no base, and returns a one-line summary.

    Args:
        component: folder of the component.
        base: folder of the embedder or composition that it was trained on.
        out: folder to publish the fork at.

    Raises:
        CclmError: a folder is missing or damaged, or the component is already independent or was trained on another
            base. `out` is not changed.
    """
    inputs = {"component": verify(component, "component"), "base": verify(base, "embedder", "composition")}
    forked = load_component(component).fork(load_base(base))
    num_parameters = sum(parameter.numel() for parameter in forked.parameters())
    old = {name: read_json(component / name) for name in ("card.json", "metrics.json") if (component / name).is_file()}
    training = {key: value for key, value in old.get("card.json", {}).items() if key in COPIED_KEYS}
    with publishing(out, "component") as folder:
        write(forked, folder)
        for name in COPIED_FILES:
            if (component / name).is_file():
                shutil.copyfile(component / name, folder / name)
        write_json(folder / "card.json", {"data": None, **training, **inputs, "stage": "fork"})
        write_json(folder / "metrics.json", {**old.get("metrics.json", {}), "parameters": num_parameters})
        write_card(folder, "component")
    return (
        f"{out}: {forked.name!r} with its own copy of {base}, {num_parameters:,} parameters. It is independent of any "
        "base."
    )
