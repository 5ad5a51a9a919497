"""`cclm noise`: what it prints."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.misspellings import Spellings, read_misspellings
from cclm_core.noise.preview import SENTENCE, coloured, every_kind, markdown_table
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import NoisedText, TextNoiser
from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError


def show_noise(text: str | None, recipe: str, misspellings: Path | None, seed: int, times: int, as_json: bool) -> None:
    """Prints `times` versions of a text: in colour on a terminal, or as JSON with their edit maps.

    Raises:
        ConfigError: the recipe is no YAML, or says something that no recipe can.
        DataError: the list of misspellings, or the text, cannot be read.
    """
    noiser = TextNoiser(read_recipe(recipe), _spellings(misspellings))
    text = _text(text)
    console = Console(highlight=False, soft_wrap=True)
    for number in range(times):
        noised = noiser(text, np.random.default_rng(seed + number))
        if as_json:
            print(json.dumps(_described(noised), ensure_ascii=False))
        elif console.is_terminal:
            console.print(coloured(text, noised))
        else:
            print(noised.text)


def show_kinds(text: str | None, seed: int, misspellings: Path | None) -> None:
    """Prints what each kind makes of a text, in a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "what it makes of the text", "what it does"):
        table.add_column(column, overflow="fold")
    for name, about, noised in every_kind(_text(text), seed=seed, misspellings=_spellings(misspellings)):
        table.add_row(name, noised, " ".join(about.split()))
    Console().print(table)


def show_markdown() -> None:
    """Prints the table of docs/noise.md."""
    print(markdown_table(), end="")


def read_recipe(given: str) -> NoiseRecipe:
    """A recipe from a YAML file, or from YAML itself.

    Raises:
        ConfigError: no YAML, no mapping, or keys and values that no recipe has.
    """
    path = Path(given)
    if not given.lstrip().startswith("{") and path.suffix in (".yaml", ".yml"):
        return NoiseRecipe.parse(load_yaml(path), str(path))
    try:
        values: Any = yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise ConfigError(f"--recipe must be YAML or a .yaml file, got {given!r}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--recipe must be a mapping such as '{{rate: 0.1, kinds: [swap]}}', got {given!r}.")
    return NoiseRecipe.parse(values, "--recipe")


def _spellings(path: Path | None) -> Spellings | None:
    return None if path is None else read_misspellings(path).spellings


def _text(text: str | None) -> str:
    if text is None:
        return SENTENCE
    return sys.stdin.read() if text == "-" else text


def _described(noised: NoisedText) -> dict[str, Any]:
    names = list(CATALOGUE)
    edits = [
        {"position": position, "kind": names[kind], "consumes": consumes, "emits": emits}
        for position, kind, consumes, emits in zip(*(part.tolist() for part in noised.edits), strict=True)
    ]
    return {"text": noised.text, "source": noised.source.tolist(), "edits": edits}
