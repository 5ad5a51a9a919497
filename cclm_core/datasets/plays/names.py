"""Finds the full names of speakers and the PERSON entities of a play.

The labels are distant supervision: a word is a name if the play's list of persons or its speakers contain it.

- Ranks, kinship, trades (King, First Gentleman, Nurse) and places are not names.
- A span excludes a title before the name: `Sir [Toby Belch]`.
- Adjacent names are one span: `[Julius Caesar]`.
- A span excludes the possessive ending: `[Romeo]'s`.
- A name that is also a common word of the play (Page, Speed) counts unless it starts a line or sentence.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cclm_core.corpus.records import Entity
from cclm_core.datasets.plays.speeches import Speech


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROLES = _words(
    """
    a abbess abbot actor aedile aediles afterwards all also amazons ambassador ambassadors an ancient and another
    antiates apothecary apparition apparitions archbishop archduke armourer artificer athenian attendant
    attendants bandit banditti bastard bawd beadle bellows-mender bench bishop boatswain bohemian both boy british
    brother brothers butcher captain captains cardinal carpenter carrier carriers cham chamberlain chancellor
    chief child children chorus citizen citizens clerk clown clowns commoners commons conjurer conspirator
    conspirators constable count countess country courtezan courtier crier curate dancer danes daughter daughters
    dauphin de del deputy dirge doctor don door-keeper drawer duchess duke dumb dutch dutchman earl egyptian eight
    eighth elder emperor english english-herald epilogue executioner fairies fairy falconers father fiend fifth
    first fisherman fishermen florentine flourish followers fool forester foresters fourth french frenchman friar
    friend from gaoler gaolers garden gardener garter general gentleman gentlemen gentlewoman ghost ghosts girl
    goldsmith goth goths governor grave-digger grecian greek groom guard guards gunner haberdasher headborough
    herald heralds his host hostess huntsman huntsmen iii induction italian iv jailer jew jeweller joiner judge
    justice justices keeper keepers king king-at-arms kinsmen knight knights la ladies lady lancaster-herald
    lawyer le legate lictor lieutenant lion lord lords madam magnificoes maid maids man mariner mariners marquess
    marquis marshal marshall master master's-mate master-gunner mate mayor men merchant mess messenger messengers
    mistress monsieur moon moor mother mr mrs murderer murderers musician musicians myrmidon neighbour nephew
    nobleman north northern nun nurse nymphs of officer officers old one or orator other others outlaw outlaws
    page pages painter pandar patrician patricians pedant people persons petitioner philippi physician pirate
    player players plebeians poet porter post prentice priest prince princes princess prologue provost pursuivant
    queen reapers rebel roman romans rumour sailor saint sardis schoolmaster scotch scottish scout scribe
    scrivener sea second secretaries secretary senate senator senators senior sentinel sentry sergeant serv
    servant servants serving serving-man serving-men servingmen seventh several sexton shepherd shepherdesses sher
    sheriff ship sicilian signior sir sisters sixth smith soldier soldiers some son song sons soothsayer spanish
    speak speaks spirit spirits spring steward stranger strangers suitors surveyor tailor the thief thieves third
    three time tinker town townsman traveller travellers tribune tribunes trojan tutor two tyrian usher v vi vicar
    vii viii vint vintner voice volsce volscian volscians wall war warder warders watch watchman watchmen weaver
    welsh welshmen wench widow wife winter witch witches within woman women workman workmen xi yeoman young
    younger
    """
)
"""Lowercase ranks, kinship terms, trades, peoples and other words in lists of persons that are not names."""

PLACES = _words(
    """
    alexandria america angiers anjou antioch antium aragon arden arragon athens auvergne belmont bohemia bordeaux
    bretagne bristol britain burgundians calais carlisle castile corinth corioli cyprus denmark dover dunsinane
    dunstable eastcheap egypt elsinore england ephesus europe florence france gascony germany greece harfleur
    hereford illyria ireland italy kent-street kimbolton libya london lorraine mantua messina milan misenum
    mytilene naples navarre norway orleans oxfordshire padua paphos paris-garden parthia pentapolis phrygia pisa
    poland pomfret rhodes rome rouen rousillon sardinia scotland sicilia sicily spain syracuse syria tarsus troy
    tunis tuscany tyre venice verona vienna wales westminster windsor
    """
)
"""Lowercase countries and towns; their kings and dukes are also called by these names."""

# A place alone can mean the holder of one of these ranks: `YORK` is the Duke of York, never the Mayor or the Duchess.
_RANKS = {"archbishop", "archduke", "bishop", "count", "duke", "earl", "lord", "marquess", "marquis", "prince"}
_CAPITALS = re.compile(r"\b[A-Z][A-Z'.-]+(?:\s+(?:OF|THE|DE|LE|LA|[A-Z][A-Z'-]+)\b)*")
_WORD = re.compile(r"[A-Za-zæÆ]+(?:-[A-Za-zæ]+)*")
_STARTS = re.compile(r"(?:^|[.?!:;\"(\n]|--)[\s'\"(]*$")


class Cast:
    """The characters of a play, from its list of persons and the headings of its speeches.

    Args:
        persons: lines of the list of persons.
        speeches: speeches of the edition in modern spelling.
        aliases: more names of characters.

    Attributes:
        authors: heading of a speech → full name of the speaker.
        names: lowercase words that are names.
    """

    def __init__(self, persons: Sequence[str], speeches: Iterable[Speech], aliases: Iterable[str]) -> None:
        self._entries = [entry for line in persons for entry in _entries(line)]
        words = {word.casefold() for line in persons for word in _WORD.findall(line) if word[0].isupper()}
        headings = Counter(speech.speaker for speech in speeches)
        self.authors: Mapping[str, str] = {heading: self._author(heading, words) for heading in headings}
        names = {word for entry in self._entries for word in _name_words(entry)}
        for heading in headings:
            for token in _name_words(heading):
                completions = _completions(token, words)
                if token in words or len(completions) == 1 or (not completions and len(token) > 3):
                    names.update(completions if len(completions) == 1 and token not in words else {token})
        names |= {alias.casefold() for alias in aliases}
        self.names = frozenset(name for name in names if len(name) > 2 and _is_name(name))

    def _author(self, heading: str, words: set[str]) -> str:
        """Returns the full name for a heading if exactly one entry matches; otherwise the heading in title case.

        `SIR TOBY` becomes `Sir Toby Belch` and `Ham` becomes `Hamlet`. `KING` stays `King`, because it is ambiguous.
        """
        tokens = _tokens(heading)
        if not any(_is_name(token) for token in tokens) or (len(tokens) == 1 and _shortens_a_role(tokens[0], words)):
            return _tidy(heading)
        matching = {entry for entry in self._entries if _matches(tokens, entry)}
        exact = {entry for entry in matching if set(tokens) <= set(_tokens(entry))}
        for candidates in (exact, matching):
            if len(candidates) == 1:
                return _tidy(candidates.pop())
        completions = _completions(tokens[0], words) if len(tokens) == 1 else set()
        return _tidy(completions.pop() if len(completions) == 1 and tokens[0] not in words else heading)


def find_entities(text: str, names: frozenset[str], common: frozenset[str]) -> tuple[Entity, ...]:
    """Returns the PERSON spans of a text; adjacent names are joined.

    Args:
        text: the text.
        names: lowercase words that are names if they are capitalized.
        common: lowercase names that do not count at the start of a line or sentence.

    >>> find_entities("O Romeo, Romeo's sword!\\nJulius Caesar", frozenset({"romeo", "julius", "caesar"}), frozenset())
    (Entity(start=2, end=7, label='PERSON'), Entity(start=9, end=14, label='PERSON'), \
Entity(start=24, end=37, label='PERSON'))
    """
    spans: list[Entity] = []
    for match in _WORD.finditer(text):
        word, start, end = match[0], match.start(), match.end()
        if not word[0].isupper() or word.casefold() not in names or text[max(0, start - 1) : start] == "'":
            continue
        if word.casefold() in common and _STARTS.search(text[max(0, start - 8) : start]):
            continue
        if spans and text[spans[-1].end : start] == " ":
            spans[-1] = Entity(spans[-1].start, end, "PERSON")
        else:
            spans.append(Entity(start, end, "PERSON"))
    return tuple(spans)


def common_words(speeches: Iterable[Speech]) -> frozenset[str]:
    """Returns the words that occur in lower case in the speeches."""
    return frozenset(word for speech in speeches for word in _WORD.findall(speech.text) if word.islower())


def _entries(line: str) -> list[str]:
    """Returns the names in a line of a list of persons.

    >>> _entries("SHALLOW and SILENCE, country justices.")
    ['SHALLOW', 'SILENCE']
    >>> _entries("Claudius, King of Denmark.")
    ['Claudius']
    """
    capitals = [entry for entry in _CAPITALS.findall(line) if len(entry) > 2]
    if capitals:
        return [entry.rstrip(".") for entry in capitals]
    head = re.split(r"[,;.(}]| - ", re.sub(r"\b(Mrs|Mr)\.", r"\1", line))[0].strip()
    words = head.split()
    if not words or not all(word[0].isupper() or word in ("of", "the", "de", "to") for word in words):
        return []
    return [head]


def _tokens(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(name)]


def _name_words(name: str) -> list[str]:
    """Returns the lowercase words of `name` that name a person: no roles, no places, nothing after `of` or `to`."""
    words = re.sub(r"'[sS]?\b", "", name)
    before = re.split(r"\b(?:of|OF|to|TO)\b", words)[0]
    return [token for token in _tokens(before) if _is_name(token)]


def _is_name(token: str) -> bool:
    return token not in ROLES and token not in PLACES


def _matches(tokens: list[str], entry: str) -> bool:
    """Whether the tokens are prefixes of different words of the entry, in order; see `_RANKS`."""
    entry_words = _tokens(entry)
    words = iter(entry_words)
    if not all(any(word.startswith(token) for word in words) for token in tokens):
        return False
    is_name = any(word.startswith(token) for token in tokens for word in _name_words(entry))
    return is_name or bool(_RANKS & set(entry_words)) or bool(ROLES & set(tokens))


def _completions(token: str, words: set[str]) -> set[str]:
    return {word for word in words if word.startswith(token) and _is_name(word)}


def _shortens_a_role(token: str, words: set[str]) -> bool:
    """Whether `token` can abbreviate a role in the list, for example `Arch` an archbishop."""
    return token not in words and any(word.startswith(token) and word in ROLES for word in words)


def _tidy(name: str) -> str:
    """Converts a name to title case, without a leading article or initials; Roman numerals stay in capitals.

    >>> _tidy("KING HENRY THE SIXTH"), _tidy("A Captain"), _tidy("LEWIS XI")
    ('King Henry the Sixth', 'Captain', 'Lewis XI')
    """
    name = re.sub(r"^(?:(?:[A-Z]\. ?)+(?=[A-Z]{2})|(?:[Aa]n?|The|THE|M\. AEMIL\.) )", "", re.sub(r"\s+", " ", name))
    words = name.strip(" .'-").split(" ")
    small = {"of", "the", "and", "to", "de"}
    return " ".join(
        word
        if re.fullmatch(r"[IVX]+", word)
        else word.lower()
        if index and word.lower() in small
        else "-".join(part[:1].upper() + part[1:].lower() for part in word.split("-"))
        for index, word in enumerate(words)
    )
