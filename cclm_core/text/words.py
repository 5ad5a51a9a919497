"""Which ids are part of words."""

import numpy as np
import numpy.typing as npt

from cclm_core.text.alphabet import FIRST_BYTE, FIRST_CHARACTER
from cclm_core.text.vocabulary import Preprocessor

_APOSTROPHES = "'\u2019"


def letters(preprocessor: Preprocessor) -> npt.NDArray[np.bool_]:
    """Of each id whether it is a letter, a digit, an apostrophe or a byte of a rare character: (num_ids,) bool."""
    inside = np.zeros(preprocessor.num_ids, dtype=bool)
    inside[FIRST_BYTE:FIRST_CHARACTER] = True
    inside[FIRST_CHARACTER:] = [character.isalnum() or character in _APOSTROPHES for character in preprocessor.alphabet]
    return inside
