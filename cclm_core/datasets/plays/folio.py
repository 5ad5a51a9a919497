"""Parses a play in the spelling of the First Folio: indented speeches, stage directions without brackets.

```
  Hora. Most like: It harrowes me with fear & wonder
  Barn. It would be spoke too

   Mar. Question it Horatio

Exit the Ghost.
```
A speech starts with two or three spaces and a speaker prefix; its other lines start at the margin. The files drop the
final period of a speech before an empty line, so a short paragraph at the margin that ends with a period is a
direction. Text after FINIS is ignored: lists of persons, and a truncated epilogue of Henry IV, part 2.
"""

import re

from cclm_core.datasets.plays.speeches import Parsed, SpeechBuilder

_SCENE = re.compile(
    r"Act[uv]s\b|Sc(?:oe|e|ae|æ)na\s+(?:Prim|Secu|Tert|Quar|Quin|Sext|Sept|Octa|Nona|Dec)", re.IGNORECASE
)
_SECTION = re.compile(r"(?:THE )?(INDVCTION|PROLOGVE|Prologue|EPILOGVE|EPILOGUE|Epilogue|Chorus)(?:\W*$|, spoken)")
_END = re.compile(r"FINIS\b|(?i:(?:the )?(?:names of (?:all )?the actors|actors names))\W*$|The-, an")
_ACT_ENDS = re.compile(r"Finis,? Act")
_PREFIX = re.compile(r"((?:\d ?\.? ?)?[A-Za-z&æ][A-Za-z'&æ -]{0,24}?)[.:]\s*(.*)")
_SECOND_PREFIX = re.compile(r"([A-Z][a-z']{0,5})\.(?=\s+\S)\s*(.*)")
_NUMBER = re.compile(r"(\d)[ .]+(.*)")
_NUMBERED_ROLE = re.compile(r"\d(?:\.|\. | )[A-Z][a-z]+\.(?!$)")
_MANNER = re.compile(r",? (?:sings?|singing|Songs?|within|reade?s|solus|speakes|Sing|kneel)\b.*| $")
_LIGATURE_PREFIX = re.compile(r"(?:Ae|ae|Æ|æ)[a-z]+\. ")

_ENTRANCE = re.compile(r"(?:Enter|enter|Exit|exit|Exeunt|exeunt|Ex\.|Manet|Manent|manet)(?![a-z'])")
_ENTERS = re.compile(r"(?:.*?\.\s+)?Enter,?\s+([^.,:]+)")
_ENTERS_LATER = re.compile(r"\b(?:Enter|entring|[Ee]nters)\b")
_VERBS = (
    "addresses|aloft|appeares?|ascends|aside|awakes|beares|beats|beckens|bleeds|brings|brought|cals|clap|cries|cryes|"
    "descends|dies|drawes?|drinkes|drinks|dyes|embrace|enters?|entreth|exeunt|exit|falles|fals|fight|flies|flyes|"
    "gathers?|giues|goes|grones|heaue|kils?|killes|kisses?|kneeles?|knocks?|laies|layes|leades?|lookes|marches|meete?|"
    "offers|opens?|passe|place|playe?s|plaies|puts|reads?|reades|reade|riseth|rises|runnes|seekes|sets|sings?|sits|"
    "skirmish|sleepes?|sounded|sounds?|speakes?|stabs|stampes|stands|start|starts|stay|steale|steppes|steps|strikes?|"
    "takes?|teares|throwes|turnes?|vanish|vanishes|wakes?|walkes?|weepes|whispers?|within|withdraw|wrastle"
)
# Sounds and shows: always a direction.
_SOUND = re.compile(
    r"(?:(?:Lowd|Low|Another|Here an|Here|French|Soft|Still|Solemne?|Sad and solemne|An? (?:\w+ ){0,2})? ?"
    r"(?:[Aa]l+arums?|[Ff]lou?rish|SENNET|Senn?[ei]t|[Mm]usicke?|Drumm?e?s?|[Mm]arch|Tucket|[Pp]arley|[Nn]oyse|[Ss]hou?ts?|"
    r"[Ss]howt|[Cc]ry within|Storme?)|"
    r"Sounds?|Dead March|Marching|Thunder|Trumpets?|Cornets?|Hobo[yi]es?|Tempest|Knocke?|Knockes|Knocking|Songs?|SONG|"
    r"Excursions|Retreat|Winde? [Hh]ornes?|Winds his Horne|Hornes|Letter|Reade?s|Sings|D[yi]es|Clocke|Lightning|"
    r"Whispers?|Skirmish|Dance)(?![a-z'])[^?!]*$"
)
# Actions: a direction if it ends with a period or has at most two words.
_ACTION = re.compile(
    r"(?:Strikes|Throwes|Takes|Killes|Kils|Kneeles?|Draw|Drawes|Beats|Fight|Drinke?s|Wrastle|Rises|Stabs|Opens|Offers|"
    r"Holds|Pushes|Speak together|Sleepes?|Kisses|Walkes|Begin againe|His Oration)(?![a-z'])[^?!]*$|"
    r"(?:(?:An?|The|All|One|King) )?(?:[A-Z][a-z]+\.?,? (?:and |& )?){0,3}(?:they |all |shee? |hee? |may )?"
    rf"(?:{_VERBS})\b[^?!]*$|"
    r"(?:A|The) (?:Letter|Song|Trumpet|Drumme|Bed|Banquet|Banket|Dance|Hall|Storme|Charge|Table|Scroule|Bell)\b[^?!]*$|"
    r"(?:They|Hee?|Shee?|Heere|Here|It) (?!comes?\b|is\b|was\b|has\b|hath\b|do'?e?s\b)"
    r"(?:the |an? |all |both |they |two |one )?[A-Za-z]+(?:e?s|th|e|w|t|y|k|d|p)\b[^?!:;]*$"
)
_MAX_ACTION = 75  # characters
_MAX_SHORT_DIRECTION = 4  # words


def parse_folio(text: str) -> Parsed:
    """Returns the speeches and the leftovers of a play in the Folio's spelling; the list of persons is empty."""
    text = re.sub(r"(?<=\w)\[([a-z]+)\]", r"\1", text)
    lines = [line.rstrip() for line in text.split("\n")]
    body = next((index for index, line in enumerate(lines) if _begins(line)), len(lines))
    prefixes = _prefixes(lines[body:])
    builder = SpeechBuilder()
    entered: str | None = None
    index = body
    while index < len(lines):
        line, number = lines[index], index + 1
        paragraph = _paragraph(lines, index)
        starts = index == 0 or not lines[index - 1]
        if _END.match(line) or _is_closing_title(lines, index):
            break
        if not line or _ACT_ENDS.match(line):
            index += 1
        elif _SCENE.match(line) or (section := _SECTION.match(line)):
            builder.begin(None, number)
            entered = section[1].capitalize().replace("v", "u") if not _SCENE.match(line) and section else None
            index += 1
        elif line.startswith("  ") or _LIGATURE_PREFIX.match(line):
            speaker, speech = _split_prefix(line.strip(), prefixes)
            if speaker:
                builder.begin(speaker, number)
            builder.add(speech, number)
            index += 1
        elif _ENTRANCE.match(line) or (
            starts and (_is_direction(lines, index, paragraph) or (builder.speaker is None and _enters(paragraph)))
        ):
            if builder.speaker is None and (enters := _ENTERS.match(" ".join(paragraph))):
                entered = enters[1]
            index += len(paragraph)
        else:
            if builder.speaker is None and entered:
                builder.begin(entered, number)
            builder.add(line, number)
            index += 1
    builder.end()
    return Parsed(builder.speeches, [], builder.leftovers)


def _begins(line: str) -> bool:
    return bool(_SCENE.match(line) or _SECTION.match(line) or _ENTRANCE.match(line))


def _paragraph(lines: list[str], start: int) -> list[str]:
    """Returns the lines from `start` up to the next empty or indented line."""
    end = start + 1
    while end < len(lines) and lines[end] and not lines[end].startswith("  "):
        end += 1
    return lines[start:end]


def _is_direction(lines: list[str], index: int, paragraph: list[str]) -> bool:
    text = " ".join(paragraph)
    if _SOUND.match(text if len(paragraph) <= 4 else text[:30]):
        return len(paragraph) == 1 or text.endswith(".") or _enters(paragraph)
    if len(text) > _MAX_ACTION and not (_enters(paragraph) and _ACTION.match(text)):
        return False
    is_single = len(paragraph) == 1 and not "".join(lines[index + 1 : index + 2])
    is_short = len(text.split()) <= _MAX_SHORT_DIRECTION
    if is_single and text.endswith(".") and is_short and not set("?!:;") & set(text):
        return True
    if _ACTION.match(text) and (text.endswith(".") or len(text.split()) <= 2):
        return True
    after = index + len(paragraph)
    while after < len(lines) and not lines[after]:
        after += 1
    speech_follows = after < len(lines) and lines[after].startswith("  ")
    return speech_follows and len(paragraph) == 1 and len(text) <= 60 and text.endswith(".")


def _enters(paragraph: list[str]) -> bool:
    return bool(_ENTERS_LATER.search(" ".join(paragraph[:2])))


def _is_closing_title(lines: list[str], index: int) -> bool:
    """Whether the title of the play follows as the last paragraph, as in files without FINIS."""
    return bool(re.match(r"(?:The life and death|THE (?:TRAGEDIE|LIFE)|Epilogue\. The)\b", lines[index])) and not any(
        lines[index + 3 :]
    )


def _prefixes(lines: list[str]) -> set[str]:
    """Returns the prefixes of at least two speeches, with or without a period."""
    counts: dict[str, int] = {}
    for line in lines:
        if line.startswith("  "):
            match = _PREFIX.match(line.strip())
            prefix = match[1] if match and " " not in match[1] else line.split()[0]
            counts[prefix] = counts.get(prefix, 0) + 1
    return {prefix for prefix, count in counts.items() if count >= 2}


def _split_prefix(line: str, prefixes: set[str]) -> tuple[str | None, str]:
    """Splits the first line of a speech into the speaker prefix, or None, and the text.

    >>> _split_prefix("Mist.Page. What? haue I scap'd", {"Mist"})
    ('Mist Page', "What? haue I scap'd")
    >>> _split_prefix("2 Hearke", set())
    ('2', 'Hearke')
    """
    number = _NUMBER.match(line)
    match = _PREFIX.match(line)
    if number and not _NUMBERED_ROLE.match(line):
        return number[1], number[2]
    first = line.split()[0].rstrip(",")
    if match is None or (len(match[1].split()) > 1 and first in prefixes and not number):
        return (first, line[len(first) :].lstrip(",")) if first in prefixes else (None, line)
    speaker, speech = match[1], match[2]
    second = _SECOND_PREFIX.match(speech)
    if second and (line[match.end(1) + 1] != " " or f"{speaker} {second[1]}" in prefixes):
        return f"{speaker} {second[1]}", second[2]
    return _MANNER.sub("", speaker), speech
