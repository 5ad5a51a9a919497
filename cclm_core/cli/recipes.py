"""`cclm init --recipe`: a commented params.yaml from the folder `recipes` of a clone, with its sample data."""

import re
from pathlib import Path

from cclm_core.cli.columns import print_columns
from cclm_core.cli.init import PARAMS, refuse_changes, replaced_folder, write_params
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import copy_file
from cclm_core.runtime.readers import parse_yaml
from cclm_core.steps.params import INPUT, Params

FOLDER, SAMPLES = "recipes", "samples"
LIST = "list"
"""The name that lists the recipes instead of writing one."""

_SAMPLE = re.compile(rf"\b{INPUT}/([\w.-]+)")


def init_recipe(root: Path, name: str, force: bool) -> None:
    """Writes the params.yaml of a recipe, and copies its sample data into `input` unless files of that name exist.

    Args:
        root: the folder of the project.
        name: name of a file in `recipes`, without .yaml; `list` prints the recipes.
        force: replace a changed params.yaml; the old one is kept.

    Raises:
        ConfigError: there is no such recipe, or params.yaml has changes and `force` is not set. Nothing was changed.
    """
    recipes = {path.stem: path for path in sorted((root / FOLDER).glob("*.yaml"))}
    if name == LIST:
        print_columns([(recipe, summary(path)) for recipe, path in recipes.items()])
        print("\nNext: cclm init --recipe NAME")
        return
    if name not in recipes:
        raise ConfigError(
            f"--recipe {name} not found in {FOLDER}; {nearest(name, list(recipes))} `cclm init --recipe {LIST}` "
            "describes them."
        )
    refuse_changes(root, force)
    text = recipes[name].read_text(encoding="utf-8")
    Params(parse_yaml(text, str(recipes[name]))).check()
    for sample in sorted(set(_SAMPLE.findall(text))):
        source, target = root / FOLDER / SAMPLES / sample, root / INPUT / sample
        if not source.is_file():
            continue
        if target.exists():
            print(f"{INPUT}/{sample} exists and is used as it is.")
        else:
            target.parent.mkdir(exist_ok=True)
            copy_file(source, target)
            print(f"Copied sample data to {INPUT}/{sample}.")
    kept = write_params(root, text, replaced_folder(root) if force else None)
    if kept is not None:
        print(f"The former {PARAMS} is {kept}.")
    print(f"Wrote {PARAMS} from {FOLDER}/{name}.yaml. Next: `cclm status` shows what would run, `cclm run` runs it.")


def summary(path: Path) -> str:
    """The first line of a recipe: its purpose."""
    with path.open(encoding="utf-8") as lines:
        return next(lines).removeprefix("#").strip()
