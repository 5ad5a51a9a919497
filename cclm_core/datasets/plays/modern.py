"""Parses a play in modern spelling: speakers' names on separate lines, stage directions in brackets.

```
Scene I. Elsinore. A platform before the Castle.

[Francisco at his post. Enter to him Bernardo.]

Ber.
Who's there?
```
Depending on the file, a name is `HAMLET.`, `HAMLET` or `Ham.`. Sometimes the text follows on the same line.
"""

import re

from cclm_core.datasets.plays.speeches import Parsed, SpeechBuilder

# No direction spans a blank line. Some end with `}` or lack the closing bracket, some start with `{`.
_DIRECTION = re.compile(r"[\[{](?:(?!\n[ \t]*\n)[^\[\]{}])*[\]}]")
_NESTED = re.compile(r"\[(?:(?!\n[ \t]*\n)[^\[\]])*\[[^\[\]]*\](?:(?!\n[ \t]*\n)[^\[\]])*\]")
_OPEN_DIRECTION = re.compile(r"\[(?:(?!\n[ \t]*\n)[^\[\]])*(?=\n[ \t]*\n|\Z)")
_UNOPENED_DIRECTION = re.compile(r"(?<=\n\n)(?:Re-)?(?:[Ee]nter|Scene)\b(?:(?!\n[ \t]*\n)[^\[\]])*\]")

_PERSONS = re.compile(r"\s*(persons represented|dramatis personae)\W*$", re.IGNORECASE)
_NUMERAL = r"(?:[IVX]+|\d+|FIRST|SECOND|THIRD|FOURTH|FIFTH)"
_SCENE = re.compile(rf"(?:ACT|Act|SCENE|Scene)\s+{_NUMERAL}\b")
_SECTION = re.compile(r"(?:THE )?(INDUCTION|PROLOGUE|EPILOGUE)\W*$")
_ORDER = re.compile(r"THE ORDER OF THE CORONATION\W*$")
_APPARATUS = re.compile(r"(?:THE END|FINIS|(?:THE )?SONGS?|SPRING|WINTER|DIRGE|DUMB SHOW)\W*$")
_NUMERAL_LINE = re.compile(r"(?:[IVXL]+|\d+)\W*$")
_BARE_DIRECTION = re.compile(
    r"(?:Alarums?\.|Flourish\.|Dead March\.|Here (?:alarum|sound)|Enter,? (?:[A-Z]|several|below|from thence))"
)
_BARE_EXIT = re.compile(r"(?<=[.!?])\s*(?:Exit|Exeunt)\b[^.!?]*$")
_CAPITALS = re.compile(r"[A-Z0-9][A-Za-z0-9'.,& -]{1,44}$")
_MIXED = re.compile(r"(?:\d |I )?[A-Z][A-Za-z' ]{1,24}(?:\. and [A-Z][a-z]+)?\.$")
_INLINE = re.compile(r"([A-Z][A-Za-z' -]{1,30}?)\.\s*(?=\S)")
_SMALL_WORDS = {"and", "of", "the", "c"}


def parse_modern(text: str) -> Parsed:
    """Returns the speeches, the list of persons and the leftovers of a play in modern spelling."""
    lines = _without_directions(text).split("\n")
    body = _body(lines)
    capitals = _writes_capitals(lines[body:])
    speakers = {_name(line) for line in lines[body:] if _is_heading(line.strip(), capitals)}
    titles = {_fold(lines[0])} - {_fold(name) for name in speakers}
    builder = SpeechBuilder()
    after_blank, after_scene, skipping = True, False, False
    for number, line in enumerate(lines[body:], start=body + 1):
        stripped = line.strip()
        if not stripped:
            after_blank, skipping = True, False
            continue
        starts, after_blank = after_blank, False
        if skipping:
            continue
        section = _SECTION.match(stripped)
        if section and starts:
            builder.begin(None if section[1] == "INDUCTION" else section[1].capitalize(), 0)
            after_scene = section[1] == "INDUCTION"
        elif _SCENE.match(stripped):
            builder.begin(None, number)
            after_scene = skipping = True
        elif starts and _BARE_DIRECTION.match(stripped):
            skipping = True
        elif _ORDER.match(stripped):
            builder.begin(None, number)
            after_scene = True
        elif _APPARATUS.match(stripped) or (starts and (_NUMERAL_LINE.match(stripped) or _fold(stripped) in titles)):
            continue
        elif (starts or capitals) and line[:8].strip() and _is_heading(stripped, capitals):
            builder.begin(_name(stripped), number)
            after_scene = False
        elif (inline := _INLINE.match(stripped)) and inline[1] in speakers and (starts or inline[1].isupper()):
            builder.begin(inline[1], number)
            builder.add(stripped[inline.end() :], number)
            after_scene = False
        elif starts and after_scene and builder.speaker is None:
            skipping = True
        else:
            builder.add(_BARE_EXIT.sub("", stripped), number)
    builder.end()
    return Parsed(builder.speeches, _persons(lines[:body]), builder.leftovers)


def _without_directions(text: str) -> str:
    """Removes stage directions but keeps their line breaks, so that line numbers stay valid."""
    for pattern in (_NESTED, _DIRECTION, _UNOPENED_DIRECTION, _OPEN_DIRECTION):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    return re.sub(r"[\[\]{}]", "", text)


def _body(lines: list[str]) -> int:
    """Returns the index of the first line of the play: the heading of an act, prologue or induction."""
    for index, line in enumerate(lines):
        if index and (_SCENE.match(line) or _SECTION.match(line)):
            return index
    return len(lines)


def _persons(lines: list[str]) -> list[str]:
    start = next((index for index, line in enumerate(lines) if _PERSONS.match(line)), len(lines))
    persons = []
    for line in lines[start + 1 :]:
        if re.match(r"\s*(?:The )?scene\b", line, re.IGNORECASE):
            break
        if line.strip():
            persons.append(line.strip())
    return persons


def _writes_capitals(lines: list[str]) -> bool:
    """Whether most speakers' names are in capitals."""
    capitals = sum(_is_heading(line.strip(), capitals=True) for line in lines)
    return capitals >= sum(_is_heading(line.strip(), capitals=False) and not line.isupper() for line in lines)


def _fold(line: str) -> str:
    return line.strip(" .").casefold()


def _name(heading: str) -> str:
    return heading.strip().rstrip(".- ")


def _is_heading(line: str, capitals: bool) -> bool:
    """Whether a line is a speaker's name: in capitals if `capitals`, otherwise like `Name.` or `1 Name.`."""
    if not line or len(line) > 45 or not (line[0].isupper() or line[0].isdigit()):
        return False
    words = re.findall(r"[A-Za-z0-9'-]+", line)
    name = [word for word in words if word not in _SMALL_WORDS]
    if not name or not all(word[0].isupper() or word[0].isdigit() for word in name):
        return False
    if (
        _APPARATUS.match(line)
        or _SCENE.match(line)
        or line[-1] in "'?!;:"
        or re.search(r"\.\s+(?:[IO]\b|[A-Z][a-z])", line)
    ):
        return False
    if not capitals:
        return len(words) <= 4 and bool(_MIXED.match(line))
    letters = "".join(filter(str.isalpha, "".join(name)))
    upper = sum(map(str.isupper, letters))
    dotted = line.rstrip("-").endswith(".")
    return len(letters) >= 3 and bool(_CAPITALS.match(line)) and upper >= (0.55 if dotted else 1) * len(letters)
