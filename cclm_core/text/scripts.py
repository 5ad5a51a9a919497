"""Scripts that are written without spaces between words, where a run of letters is a sentence and not a word."""

import re

import numpy as np
import numpy.typing as npt

# Thai, Lao, Tibetan, Myanmar, Khmer, Hiragana, Katakana, Bopomofo, Han, Yi; with the marks that belong to their
# letters, and the repetition marks and small forms of Japanese. Blocks as in The Unicode Standard, chapter 2.
UNSPACED = (
    "[\u0e00-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17d3\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3040-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff"
    "\uff66-\uff9f\U00016fe0-\U00018d8f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""The pattern of one character of such a script."""

_UNSPACED = re.compile(UNSPACED)


def has_unspaced(text: str) -> bool:
    """Whether a text contains a character of a script without spaces.

    >>> has_unspaced("plain"), has_unspaced("去北京 today")
    (False, True)
    """
    return _UNSPACED.search(text) is not None


def unspaced(text: str) -> npt.NDArray[np.bool_]:
    """(L,) whether each character of a text is of a script without spaces.

    >>> unspaced("a北京").tolist()
    [False, True, True]
    """
    found = np.zeros(len(text), dtype=bool)
    found[[match.start() for match in _UNSPACED.finditer(text)]] = True
    return found
