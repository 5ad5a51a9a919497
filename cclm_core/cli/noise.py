"""The output of `cclm noise`: noised texts with colored edits, and a table of all kinds of noise."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cclm_core.noise import CATALOGUE, NoisedText, NoiseRecipe, Spellings, TextNoiser, read_misspellings
from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError

SENTENCE = "Their 10 friends believe that the modern kitchen was received quickly."
_SPELLINGS = {"their": {"thier": 3}, "friends": {"freinds": 2}, "believe": {"beleive": 2}, "received": {"recieved": 4}}


def show_noise(text: str | None, recipe: str, misspellings: Path | None, seed: int, times: int, as_json: bool) -> None:
    """Prints noised versions of a text: in color on a terminal, or as JSON with their edit maps.

    Args:
        text: the text; `-` reads standard input, None uses `SENTENCE`.
        recipe: see `read_recipe`.
        misspellings: the path of a list for the kind `misspelling`.
        seed: the seed of the first version; each further version has the next seed.
        times: number of versions.
        as_json: print JSON.

    Raises:
        ConfigError: the recipe is not YAML, or not a valid recipe.
        DataError: the list of misspellings or the text cannot be read.
    """
    noiser = TextNoiser(read_recipe(recipe), _spellings(misspellings))
    text = _text(text)
    console = Console(highlight=False, soft_wrap=True)
    for number in range(times):
        noised = noiser(text, np.random.default_rng(seed + number))
        if as_json:
            print(json.dumps(_json_of(noised), ensure_ascii=False))
        elif console.is_terminal:
            console.print(colored(text, noised))
        else:
            print(noised.text)


def show_kinds(text: str | None, seed: int, misspellings: Path | None) -> None:
    """Prints a table of all kinds of noise, each with a noised version of a text; arguments as for `show_noise`."""
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "example", "description"):
        table.add_column(column, overflow="fold")
    spellings = _SPELLINGS if misspellings is None else _spellings(misspellings)
    for name, noised in every_kind(_text(text), seed, spellings):
        table.add_row(name, noised, CATALOGUE[name].description)
    Console().print(table)


def every_kind(text: str, seed: int, misspellings: Spellings | None) -> Iterator[tuple[str, str]]:
    """Yields the name of each kind with a noised text: at the rate 0.25, or 1 for the kind `misspelling`."""
    for name in CATALOGUE:
        recipe = NoiseRecipe(rate=1 if name == "misspelling" else 0.25, kinds={name: 1.0})
        yield name, TextNoiser(recipe, misspellings)(text, np.random.default_rng(seed)).text


def colored(text: str, noised: NoisedText) -> Text:
    """A noised text with removed characters in red, struck through, and inserted ones in green."""
    shown = Text()
    read = written = 0
    edits = noised.edits
    for position, consumes, start, emits in zip(
        edits.positions.tolist(), edits.consumes.tolist(), edits.starts.tolist(), edits.emits.tolist(), strict=True
    ):
        shown.append(noised.text[written:start])
        old, new = text[position : position + consumes], noised.text[start : start + emits]
        kept = old if new.startswith(old) else ""  # an insertion after an unchanged letter
        shown.append(kept)
        shown.append(old[len(kept) :], style="strike red")
        shown.append(new[len(kept) :], style="bold green")
        read, written = position + consumes, start + emits
    shown.append(text[read:])
    return shown


def read_recipe(value: str) -> NoiseRecipe:
    """Parses the option `--recipe`: the path of a .yaml file, or YAML.

    Raises:
        ConfigError: the file is missing, or the value is not YAML, not a mapping, or not a valid recipe.
    """
    path = Path(value)
    if not value.lstrip().startswith("{") and path.suffix in (".yaml", ".yml"):
        return NoiseRecipe.parse(load_yaml(path), str(path))
    try:
        recipe: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--recipe must be YAML or the path of a .yaml file, got {value!r}: {error}") from None
    if not isinstance(recipe, dict):
        raise ConfigError(
            f"--recipe must be a mapping such as '{{rate: 0.1, kinds: [swap]}}' or the path of a .yaml file, "
            f"got {value!r}."
        )
    return NoiseRecipe.parse(recipe, "--recipe")


def _spellings(path: Path | None) -> Spellings | None:
    return None if path is None else read_misspellings(path).spellings


def _text(text: str | None) -> str:
    if text is None:
        return SENTENCE
    return sys.stdin.read() if text == "-" else text


def _json_of(noised: NoisedText) -> dict[str, Any]:
    names = list(CATALOGUE)
    edits = [
        {"position": position, "kind": names[kind], "consumes": consumes, "emits": emits}
        for position, kind, consumes, emits in zip(*(part.tolist() for part in noised.edits), strict=True)
    ]
    return {"text": noised.text, "source": noised.source.tolist(), "edits": edits}
