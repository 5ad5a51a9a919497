"""The definition of a word: a run of letters, with single apostrophes inside. All other definitions derive from it.

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
"""The pattern of a run of letters, digits and underscores."""


def with_apostrophes(run: str) -> str:
    """The pattern of one or more runs joined by single apostrophes; `run` is the pattern of a run.

    >>> re.findall(with_apostrophes(RUN), "don't x_1 'tis")
    ["don't", 'x_1', 'tis']
    """
    return f"{run}(?:[{APOSTROPHES}]{run})*"


WORD = re.compile(with_apostrophes(f"{LETTER}+"))


def alphanumeric(text: str) -> npt.NDArray[np.bool_]:
    """Whether each character of a text is a letter or a digit, (L,) bool.

    >>> alphanumeric("a 1'").tolist()
    [True, False, True, False]
    """
    return np.fromiter(map(str.isalnum, text), dtype=bool, count=len(text))


def letters(preprocessor: Preprocessor) -> npt.NDArray[np.bool_]:
    """Whether each id can be part of a word, (num_ids,) bool: letters, digits, apostrophes, bytes.

    Digits and bytes count, unlike in `WORD`: a model classifies each id without looking at its neighbors.
    """
    mask = np.zeros(preprocessor.num_ids, dtype=bool)
    mask[FIRST_BYTE:FIRST_CHARACTER] = True
    alphabet = preprocessor.alphabet
    mask[FIRST_CHARACTER:] = alphanumeric(alphabet) | np.array([mark in APOSTROPHES for mark in alphabet], dtype=bool)
    return mask
