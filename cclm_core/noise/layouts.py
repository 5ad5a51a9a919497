"""Keyboards: which keys lie beside which."""

QWERTY = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def neighbours(rows: tuple[str, ...] = QWERTY) -> dict[str, str]:
    """For each letter of a keyboard the letters that touch it: left, right, and two in the row above and below.

    Every row is shifted by half a key against the one above, so key k touches k and k + 1 above, k - 1 and k below.

    >>> neighbours()["s"]
    'adwexz'
    """
    touching: dict[str, str] = {}
    for number, row in enumerate(rows):
        for place, letter in enumerate(row):
            near = [(number, place - 1), (number, place + 1), (number - 1, place), (number - 1, place + 1)]
            near += [(number + 1, place), (number + 1, place - 1)]
            inside = [(y, x) for y, x in near if 0 <= y < len(rows) and 0 <= x < len(rows[y])]
            touching[letter] = "".join(rows[y][x] for y, x in inside)
    return touching
