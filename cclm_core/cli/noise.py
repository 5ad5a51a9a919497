"""The output of `cclm noise`: noisy texts with their edits in color, and a table of all kinds."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cclm_core.cli.stdin import read_stdin
from cclm_core.noise import NoisedText, NoiseRecipe, Spellings, TextNoiser, read_misspellings
from cclm_core.noise.kinds import kind_named, kind_names
from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.readers import parse_yaml
from cclm_core.runtime.terminal import printable, printable_json

SENTENCE = "Their 10 friends believe that the modern kitchen was received quickly."
_SPELLINGS = {"their": {"thier": 3}, "friends": {"freinds": 2}, "believe": {"beleive": 2}, "received": {"recieved": 4}}


def show_noise(text: str | None, recipe: str, misspellings: Path | None, seed: int, times: int, as_json: bool) -> None:
    """Prints noisy versions of a text, in color on a terminal, or as JSON with their edit maps.

    Args:
        text: the text; `-` reads standard input; None: `SENTENCE`.
        recipe: see `read_recipe`.
        misspellings: file with a list for the kind `misspelling`.
        seed: of the first version; each further version uses the next seed.
        times: number of versions.
        as_json: print one JSON object per version.

    Raises:
        ConfigError: the recipe is not valid.
        DataError: the list of misspellings or the text cannot be read.
    """
    noiser = TextNoiser(read_recipe(recipe), _spellings(misspellings))
    text = _text(text)
    console = Console(highlight=False, soft_wrap=True)
    for number in range(times):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            noised = noiser(text, np.random.default_rng(seed + number))
        for warning in caught:
            print(f"warning: {printable(str(warning.message))}", file=sys.stderr)
        if as_json:
            print(printable_json(_to_json(noised)))
        elif console.is_terminal:
            console.print(colored(text, noised))
        else:
            print(noised.text)


def show_kinds(text: str | None, seed: int, misspellings: Path | None, as_json: bool) -> None:
    """Prints all kinds, each with an example: a table, or JSON. The arguments are those of `show_noise`."""
    spellings = _SPELLINGS if misspellings is None else _spellings(misspellings)
    kinds = [(name, noised, _description(name)) for name, noised in every_kind(_text(text), seed, spellings)]
    if as_json:
        print(printable_json([dict(zip(("kind", "example", "effect"), kind, strict=True)) for kind in kinds]))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "example", "effect"):
        table.add_column(column, overflow="fold")
    for name, noised, effect in kinds:
        table.add_row(name, Text(printable(noised)), effect)  # Text: brackets are no markup
    Console().print(table)


def _description(name: str) -> str:
    kind = kind_named(name)
    assert kind is not None
    return kind.description


def every_kind(text: str, seed: int, misspellings: Spellings | None) -> Iterator[tuple[str, str]]:
    """Yields each kind with a noisy text: a quarter of the positions, or each word that has misspellings, is edited."""
    for name in kind_names():
        recipe = NoiseRecipe(rate=1 if name == "misspelling" else 0.25, kinds={name: 1.0})
        with warnings.catch_warnings(action="ignore"):  # a kind that does nothing to this text: the table shows it
            yield name, TextNoiser(recipe, misspellings)(text, np.random.default_rng(seed)).text


def colored(text: str, noised: NoisedText) -> Text:
    """The original and the noisy text in one: removals in red and struck through, insertions in green."""
    output = Text()
    end = noised_end = 0  # of the previous edit, in `text` and in `noised.text`
    edits = noised.edits
    for position, consumes, start, emits in zip(
        edits.positions.tolist(), edits.consumes.tolist(), edits.starts.tolist(), edits.emits.tolist(), strict=True
    ):
        output.append(printable(noised.text[noised_end:start]))
        old, new = text[position : position + consumes], noised.text[start : start + emits]
        unchanged = old if new.startswith(old) else ""  # of an edit that only inserts after a character
        output.append(printable(unchanged))
        output.append(printable(old[len(unchanged) :]), style="strike red")
        output.append(printable(new[len(unchanged) :]), style="bold green")
        end, noised_end = position + consumes, start + emits
    output.append(printable(text[end:]))
    return output


def read_recipe(value: str) -> NoiseRecipe:
    """Reads a recipe from a YAML file, if `value` is a path that ends in .yaml or .yml, or from inline YAML.

    Raises:
        ConfigError: not YAML, not a mapping, or not a valid recipe.
    """
    path = Path(value)
    if not value.lstrip().startswith("{") and path.suffix in (".yaml", ".yml"):
        return NoiseRecipe.parse(load_yaml(path), str(path))
    values = parse_yaml(value, "--recipe")
    if not isinstance(values, dict):
        raise ConfigError(f"--recipe must be a mapping such as '{{rate: 0.1, kinds: [swap]}}', got {value!r}.")
    return NoiseRecipe.parse(values, "--recipe")


def _spellings(path: Path | None) -> Spellings | None:
    """The misspellings of a list; tells on standard error what of it is not used."""
    if path is None:
        return None
    listed = read_misspellings(path)
    if warning := listed.warning(path):
        print(printable(warning), file=sys.stderr)
    return listed.spellings


def _text(text: str | None) -> str:
    if text is None:
        return SENTENCE
    return read_stdin() if text == "-" else text


def _to_json(noised: NoisedText) -> dict[str, Any]:
    names = kind_names()
    edits = [
        {"position": position, "kind": names[kind], "consumes": consumes, "emits": emits}
        for position, kind, consumes, emits in zip(*(part.tolist() for part in noised.edits), strict=True)
    ]
    return {"text": noised.text, "source": noised.source.tolist(), "edits": edits}
