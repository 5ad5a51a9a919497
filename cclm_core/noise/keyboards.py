"""Keyboard layouts and their adjacent keys.

The rows are the letter keys, from left to right, of the national standards (ANSI INCITS 154, DIN 2137, NF Z71-300,
GOST 6431, UNE 71010, TS 13771, SI 1452, ASMO 663), and of the X.Org layouts for Dvorak and Colemak.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

LAYOUTS: dict[str, tuple[str, str, str]] = {
    "qwerty": ("qwertyuiop", "asdfghjkl;", "zxcvbnm,."),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm,."),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn,;"),
    "dvorak": ("',.pyfgcrl", "aoeuidhtns", ";qjkxbmwvz"),
    "colemak": ("qwfpgjluy;", "arstdhneio", "zxcvbkm,."),
    "jcuken": ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю."),
    "greek": (";ςερτυθιοπ", "ασδφγηξκλ", "ζχψωβνμ,."),
    "spanish": ("qwertyuiop", "asdfghjklñ", "zxcvbnm,."),
    "turkish": ("qwertyu\u0131opğü", "asdfghjklşi", "zxcvbnmöç."),
    "hebrew": ("/'קראטוןםפ", "שדגכעיחלךף", "זסבהנמצתץ."),
    "arabic": ("ضصثقفغعهخحجد", "شسيبلاتنمكط", "ئءؤرﻻىةوزظ"),
}

STANDARD = ("qwerty", "jcuken", "greek")
"""For each script, a keyboard with its plain letters."""


def neighbors(layout: str) -> dict[str, str]:
    """Maps each letter of a keyboard to the letters of the adjacent keys: left, right, two above, two below.

    Each row is shifted right by half a key: key k is adjacent to keys k and k + 1 above, and k - 1 and k below.

    >>> neighbors("qwerty")["s"], neighbors("qwertz")["t"], neighbors("dvorak")["p"]
    ('adwexz', 'rzgf', 'yue')
    """
    rows = LAYOUTS[layout]
    adjacent: dict[str, str] = {}
    for row_index, row in enumerate(rows):
        for column, letter in enumerate(row):
            near = [(row_index, column - 1), (row_index, column + 1), (row_index - 1, column)]
            near += [(row_index - 1, column + 1), (row_index + 1, column), (row_index + 1, column - 1)]
            inside = [(y, x) for y, x in near if 0 <= y < len(rows) and 0 <= x < len(rows[y])]
            if letter.isalpha():
                adjacent[letter] = "".join(rows[y][x] for y, x in inside if rows[y][x].isalpha())
    return adjacent


def neighbors_on(layouts: Sequence[str]) -> dict[str, str]:
    """The same for several keyboards, such as one per script. The first keyboard that has a letter decides."""
    joined: dict[str, str] = {}
    for layout in layouts:
        joined = {**neighbors(layout), **joined}
    return joined


def plain_letters() -> frozenset[str]:
    """The lowercase letters that have a key on one of the `STANDARD` keyboards."""
    return frozenset(letter for layout in STANDARD for row in LAYOUTS[layout] for letter in row if letter.isalpha())


@cache
def script(letter: str) -> str:
    """The script of a letter: the first word of its Unicode name, such as LATIN or HEBREW; empty without a name."""
    return unicodedata.name(letter, "").split(" ")[0]


@cache
def scripts(layouts: tuple[str, ...]) -> frozenset[str]:
    """The scripts whose letters have keys on some of the keyboards."""
    return frozenset(script(letter) for layout in layouts for letter in neighbors(layout))


def missing_keyboard(text: str, layouts: tuple[str, ...]) -> str | None:
    """A warning if no keyboard of `layouts` has the script of most letters of a text; otherwise None.

    >>> missing_keyboard("Привет", ("qwerty",))
    'the kind keyboard does not edit CYRILLIC letters: no keyboard of layouts [qwerty] has them; add jcuken'
    >>> missing_keyboard("naïve Ψ", ("qwerty",)) is None
    True
    """
    counts = Counter(script(character) for character in text if character.isalpha())
    missing = Counter({name: count for name, count in counts.items() if name not in scripts(layouts)})
    if 2 * missing.total() <= counts.total():
        return None
    name = min(missing, key=lambda name: (-missing[name], name))
    fitting = [layout for layout in LAYOUTS if name in scripts((layout,))]
    remedy = f"add {' or '.join(fitting)}" if fitting else f"none has; there are {', '.join(LAYOUTS)}"
    have = f"no keyboard of layouts [{', '.join(layouts)}] has them"
    return f"the kind keyboard does not edit {name} letters: {have}; {remedy}"
