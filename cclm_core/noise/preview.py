"""What noise does, shown: each edit in colour, and a table of one sentence under every kind."""

from collections.abc import Iterator
from inspect import getdoc

import numpy as np
from rich.text import Text

from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.confusion import Confusion
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import NoisedText, TextNoiser

SENTENCE = "Their 10 friends believe that the modern kitchen was received quickly."
_SPELLINGS = {"their": {"thier": 3}, "friends": {"freinds": 2}, "believe": {"beleive": 2}, "received": {"recieved": 4}}
_CONFUSIONS = {
    "homoglyph": "Replaces a letter by one of another script that looks the same.",
    "ocr": "Replaces what a scanner takes for something else.",
    "lookalike": "Replaces a letter by a digit or sign that looks like it, and the other way round.",
    "phonetic": "Spells a sound in another way.",
}


def coloured(text: str, noised: NoisedText) -> Text:
    """A noised text with what was taken out struck through in red, and what was put in green."""
    shown = Text()
    read = written = 0
    edits = noised.edits
    for position, consumes, start, emits in zip(
        edits.positions.tolist(), edits.consumes.tolist(), edits.starts.tolist(), edits.emits.tolist(), strict=True
    ):
        shown.append(noised.text[written:start])
        old, new = text[position : position + consumes], noised.text[start : start + emits]
        kept = old if new.startswith(old) else ""  # an insertion behind what stays
        shown.append(kept)
        shown.append(old[len(kept) :], style="strike red")
        shown.append(new[len(kept) :], style="bold green")
        read, written = position + consumes, start + emits
    shown.append(text[read:])
    return shown


def every_kind(
    sentence: str = SENTENCE, rate: float = 0.25, seed: int = 1, misspellings: Spellings | None = None
) -> Iterator[tuple[str, str, str]]:
    """For each kind its name, what it does, and what it makes of a sentence.

    Args:
        sentence: what to noise.
        rate: of each kind; the kind `misspelling` takes every word it knows.
        seed: of all of them.
        misspellings: for the kind `misspelling`; a few common ones, if None.
    """
    spellings = _SPELLINGS if misspellings is None else misspellings
    for name, kind in CATALOGUE.items():
        recipe = NoiseRecipe(rate=1 if name == "misspelling" else rate, kinds={name: 1.0})
        about = _CONFUSIONS[name] if isinstance(kind, Confusion) else (getdoc(type(kind)) or "")
        noised = TextNoiser(recipe, spellings)(sentence, np.random.default_rng(seed))
        yield name, about, noised.text


def markdown_table() -> str:
    """The table of `every_kind` as docs/noise.md has it."""
    rows = ["| kind | what it does | the sentence under it, seed 1 |", "|---|---|---|"]
    rows.append(f"| | *as it is* | {SENTENCE} |")
    rows += [f"| `{name}` | {' '.join(about.split())} | {noised} |" for name, about, noised in every_kind()]
    return "\n".join(rows) + "\n"
