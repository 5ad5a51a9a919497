"""Keyboards: which keys are next to each other.

The rows are those of the national standards' letter keys (ANSI INCITS 154, DIN 2137, NF Z71-300, GOST 6431), from
left to right; Dvorak and Colemak as in the layouts of X.Org.
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
"""For each script, the keyboard whose letters are the plain ones of the script."""


def neighbours(layout: str) -> dict[str, str]:
    """For each letter of a keyboard the letters of the adjacent keys: left, right, two in the row above, two below.

    Each row is shifted by half a key against the one above: key k is adjacent to k and k + 1 above, k - 1 and k below.

    >>> neighbours("qwerty")["s"], neighbours("qwertz")["t"], neighbours("dvorak")["p"]
    ('adwexz', 'rzgf', 'yue')
    """
    rows = LAYOUTS[layout]
    adjacent: dict[str, str] = {}
    for number, row in enumerate(rows):
        for place, letter in enumerate(row):
            near = [(number, place - 1), (number, place + 1), (number - 1, place), (number - 1, place + 1)]
            near += [(number + 1, place), (number + 1, place - 1)]
            inside = [(y, x) for y, x in near if 0 <= y < len(rows) and 0 <= x < len(rows[y])]
            if letter.isalpha():
                adjacent[letter] = "".join(rows[y][x] for y, x in inside if rows[y][x].isalpha())
    return adjacent


def neighbours_on(layouts: Sequence[str]) -> dict[str, str]:
    """The same for several keyboards, e.g. one for each script; of a letter, the first keyboard that has it counts."""
    joined: dict[str, str] = {}
    for layout in layouts:
        joined = {**neighbours(layout), **joined}
    return joined


def plain_letters() -> frozenset[str]:
    """The lower-case letters that have their own key on the standard keyboards."""
    return frozenset(letter for layout in STANDARD for row in LAYOUTS[layout] for letter in row if letter.isalpha())
