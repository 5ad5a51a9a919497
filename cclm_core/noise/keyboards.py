"""Keyboard layouts and their adjacent keys.

The rows are the letter keys, from left to right, of the national standards (ANSI INCITS 154, DIN 2137, NF Z71-300,
GOST 6431), and of the X.Org layouts for Dvorak and Colemak.
"""

from collections.abc import Sequence

LAYOUTS: dict[str, tuple[str, str, str]] = {
    "qwerty": ("qwertyuiop", "asdfghjkl;", "zxcvbnm,."),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm,."),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn,;"),
    "dvorak": ("',.pyfgcrl", "aoeuidhtns", ";qjkxbmwvz"),
    "colemak": ("qwfpgjluy;", "arstdhneio", "zxcvbkm,."),
    "jcuken": ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю."),
    "greek": (";ςερτυθιοπ", "ασδφγηξκλ", "ζχψωβνμ,."),
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
