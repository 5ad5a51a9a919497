"""What a word is. Every other definition of a word in the program is derived from this one.

A word is a run of letters, with single apostrophes inside.

>>> WORD.findall("Don't tell naïve_one the 1st rule of 'tis")
["Don't", 'tell', 'naïve', 'one', 'the', 'st', 'rule', 'of', 'tis']
"""

import re

import numpy as np
import numpy.typing as npt

from cclm_core.text.alphabet import FIRST_BYTE, FIRST_CHARACTER
from cclm_core.text.vocabulary import Preprocessor

APOSTROPHES = "'\u2019"
LETTER = r"[^\W\d_]"
"""The pattern of one letter."""
RUN = r"\w+"
"""The pattern of a run of letters, digits and underscores: what is left of a word without its apostrophes."""


def with_apostrophes(run: str) -> str:
    """The pattern of runs that are joined by single apostrophes, where `run` is the pattern of one.

    >>> re.findall(with_apostrophes(RUN), "don't x_1 'tis")
    ["don't", 'x_1', 'tis']
    """
    return f"{run}(?:[{APOSTROPHES}]{run})*"


WORD = re.compile(with_apostrophes(f"{LETTER}+"))


def alphanumeric(text: str) -> npt.NDArray[np.bool_]:
    """(L,) bool: which characters of a text are letters or digits.

    >>> alphanumeric("a 1'").tolist()
    [True, False, True, False]
    """
    return np.fromiter(map(str.isalnum, text), dtype=bool, count=len(text))


def letters(preprocessor: Preprocessor) -> npt.NDArray[np.bool_]:
    """(num_ids,) bool: which ids can be part of a word: letters, digits, apostrophes, and bytes of rare characters.

    Digits and bytes count, unlike in `WORD`: a model that reads ids needs one answer for each, without its neighbors.
    """
    mask = np.zeros(preprocessor.num_ids, dtype=bool)
    mask[FIRST_BYTE:FIRST_CHARACTER] = True
    alphabet = preprocessor.alphabet
    mask[FIRST_CHARACTER:] = alphanumeric(alphabet) | np.array([mark in APOSTROPHES for mark in alphabet], dtype=bool)
    return mask
