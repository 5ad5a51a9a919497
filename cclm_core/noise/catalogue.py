"""The catalogue of noise: every kind by its name. The order is part of what a seed means."""

from cclm_core.noise.case import Case
from cclm_core.noise.confusion import Confusion
from cclm_core.noise.drop import Drop
from cclm_core.noise.duplicate import Duplicate
from cclm_core.noise.extra_space import ExtraSpace
from cclm_core.noise.insert import Insert
from cclm_core.noise.keyboard import Keyboard
from cclm_core.noise.kind import Kind
from cclm_core.noise.missing_space import MissingSpace
from cclm_core.noise.misspelling import Misspelling
from cclm_core.noise.swap import Swap

CATALOGUE: dict[str, Kind] = {
    "swap": Swap(),
    "drop": Drop(),
    "insert": Insert(),
    "keyboard": Keyboard(),
    "duplicate": Duplicate(),
    "case": Case(),
    "missing_space": MissingSpace(),
    "extra_space": ExtraSpace(),
    "homoglyph": Confusion("homoglyph"),
    "ocr": Confusion("ocr"),
    "lookalike": Confusion("lookalike"),
    "phonetic": Confusion("phonetic"),
    "misspelling": Misspelling(),
}

TYPING = ("swap", "drop", "insert", "keyboard", "duplicate", "case")
"""The slips of fingers: what a recipe does that names no kinds."""
