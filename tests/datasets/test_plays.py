"""Both editions of a play give speeches with speakers and names; unusable text is rejected, not lost."""

import pytest

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.datasets.plays.alignment import Alignment
from cclm_core.datasets.plays.catalogue import PLAYS, Play
from cclm_core.datasets.plays.folio import parse_folio
from cclm_core.datasets.plays.modern import parse_modern
from cclm_core.datasets.plays.names import Cast, find_entities
from cclm_core.datasets.plays.reader import read_play, read_plays
from cclm_core.datasets.plays.speeches import Speech
from cclm_core.text.alignment import spelling_key

MODERN = """THE TRAGEDY OF RODOLF

by William Shakespeare


PERSONS REPRESENTED.

RODOLF, Duke of Kent.
SIR TOBY BELCH, his friend.
SHALLOW and SILENCE, country justices.
Messengers.

SCENE: Kent.


ACT I.

SCENE I. A hall
of the castle.

[Enter RODOLF and
SIR TOBY.]

RODOLF.
Have I not loved thee, Toby? [Aside.] Ever have I
  given   what was mine unto a friend.

[Flourish.]

And yet I have Rodolf's own sword; give it up to us.

SIR TOBY.
Live, Rodolf, and love us ever. {Kneels.]

SHALLOW. Shallow is my name; shallow waters have I.

FIRST MESSENGER.
My lord, over the hills and up upon the moor they come.

SCENE II. Another room.

Here is a wood.

RODOLF.

Exeunt never have I said, unto this very hour.

SHALLOW.
Away.
RODOLF.
I.

[Exeunt.]

THE END
"""

FOLIO = """The Tragedie of Rodolf

Actus Primus. Scoena Prima.

Enter Rodolfe, and Sir Toby
Belch.

  Rod. Haue I not loued thee, Tobie? Euer haue I
giuen what was mine vnto a friend

Flourish.

And yet I haue Rodolfes owne sword; giue it vp to vs

   To. Liue, Rodolfe, and loue vs euer
  Shal. Shallow is my name; shallow waters haue I

   1.Mess. My Lord, ouer the hills & vpon the moore they come.
Enter a Clowne.

He drawes.

Scena Secunda.

Enter Rodolfe.

Neuer haue I said it, vnto this very houre.

Exit.

FINIS. THE TRAGEDIE OF RODOLF.
"""

RODOLF = Play("rodolf", "tragedy", "rodolf_gut.txt", "rodolf_gut_f.txt", ("rodolf",))


def _records(texts: dict[str, str]) -> tuple[list[Record], list[Rejected]]:
    items = list(read_play(RODOLF, texts))
    return [item.record for item in items if isinstance(item, Located)], [
        item for item in items if isinstance(item, Rejected)
    ]


def test_parse_modern_edition() -> None:
    parsed = parse_modern(MODERN)
    assert [(speech.speaker, speech.text) for speech in parsed.speeches] == [
        (
            "RODOLF",
            "Have I not loved thee, Toby? Ever have I\ngiven what was mine unto a friend.\n"
            "And yet I have Rodolf's own sword; give it up to us.",
        ),
        ("SIR TOBY", "Live, Rodolf, and love us ever."),
        ("SHALLOW", "Shallow is my name; shallow waters have I."),
        ("FIRST MESSENGER", "My lord, over the hills and up upon the moor they come."),
        ("RODOLF", "Exeunt never have I said, unto this very hour."),
        ("SHALLOW", "Away."),
        ("RODOLF", "I."),
    ]
    assert parsed.speeches[1].line == MODERN.split("\n").index("SIR TOBY.") + 1
    assert parsed.leftovers == []
    assert len(parsed.persons) == 4


def test_parse_modern_edition_with_abbreviated_names() -> None:
    text = "HAMLET\n\nPERSONS REPRESENTED.\n\nHamlet, Prince.\nHoratio, his friend.\n\nACT I.\n\nScene I. Hall.\n\n"
    parsed = parse_modern(text + "Ham.\nGood.\n\nHor.\nHail to your lordship.\n\nI am glad.\n\nHam. and Hor.\nAy.\n")
    assert [(speech.speaker, speech.text) for speech in parsed.speeches] == [
        ("Ham", "Good."),
        ("Hor", "Hail to your lordship.\nI am glad."),
        ("Ham. and Hor", "Ay."),
    ]
    assert Cast(parsed.persons, parsed.speeches, ()).authors["Ham"] == "Hamlet"


def test_parse_folio_edition() -> None:
    parsed = parse_folio(FOLIO)
    assert [(speech.speaker, speech.text) for speech in parsed.speeches] == [
        (
            "Rod",
            "Haue I not loued thee, Tobie? Euer haue I\ngiuen what was mine vnto a friend\n"
            "And yet I haue Rodolfes owne sword; giue it vp to vs",
        ),
        ("To", "Liue, Rodolfe, and loue vs euer"),
        ("Shal", "Shallow is my name; shallow waters haue I"),
        ("1.Mess", "My Lord, ouer the hills & vpon the moore they come."),
        ("Rodolfe", "Neuer haue I said it, vnto this very houre."),
    ]


def test_text_before_the_first_speaker_is_a_leftover() -> None:
    parsed = parse_folio(
        "The Tragedie\n\nActus Primus.\n\nNow is the Winter of our Discontent\n\n  Glo. Made glorious\n"
    )
    assert parsed.leftovers == [(5, "text without a speaker", "Now is the Winter of our Discontent")]
    assert [speech.speaker for speech in parsed.speeches] == ["Glo"]


def test_both_editions_share_groups_and_authors_and_have_names() -> None:
    records, rejected = _records({"rodolf_gut.txt": MODERN, "rodolf_gut_f.txt": FOLIO})
    assert rejected == []
    assert {(record.group, record.label) for record in records} == {("rodolf", "tragedy")}
    by_variant = {
        variant: [record for record in records if record.variant == variant] for variant in ("modern", "folio")
    }
    assert [record.author for record in by_variant["modern"]][:4] == [
        "Rodolf",
        "Sir Toby Belch",
        "Shallow",
        "First Messenger",
    ]
    assert [record.author for record in by_variant["folio"]][:3] == ["Rodolf", "Sir Toby Belch", "Shallow"]
    names = {
        variant: [record.text[start:end] for record in records_of for start, end, _ in record.entities]
        for variant, records_of in by_variant.items()
    }
    # `Shallow` is no name here: `shallow` is a common word of this play, and a line starts with a capital letter.
    assert names == {"modern": ["Toby", "Rodolf", "Rodolf"], "folio": ["Tobie", "Rodolfe"]}
    assert len({record.id for record in records}) == len(records)


def test_a_file_with_another_edition_or_play_is_rejected() -> None:
    records, rejected = _records({"rodolf_gut.txt": FOLIO, "rodolf_gut_f.txt": MODERN})
    assert records == []
    assert [item.reason for item in rejected] == ["wrong edition for the file name"] * 2
    records, rejected = _records(
        {"rodolf_gut.txt": MODERN.replace("RODOLF", "OTTO").replace("Rodolf", "Otto"), "rodolf_gut_f.txt": FOLIO}
    )
    assert {record.variant for record in records} == {"folio"}
    assert [(item.file, item.reason) for item in rejected] == [("rodolf_gut.txt", "wrong play for the file name")]
    unrelated = "\n  Rod. " + "\n  Rod. ".join(f"Haue we giuen {index} vnto vs euer" for index in range(20))
    other_play = "The Tragedie of Rodolf\n\nActus Primus.\n" + unrelated
    records, rejected = _records({"rodolf_gut.txt": MODERN, "rodolf_gut_f.txt": other_play})
    assert {record.variant for record in records} == {"modern"}
    assert [item.reason for item in rejected] == ["the two editions are not the same play"]


def test_every_missing_file_is_reported() -> None:
    rejected = list(read_plays({}))
    assert {item.reason for item in rejected if isinstance(item, Rejected)} == {"file not found in the archive"}
    assert len(rejected) == 37 + 35 + 5


def test_a_poem_is_split_into_stanzas_without_dedication() -> None:
    poem = "THE RAPE\n\nby William Shakespeare\n\nTO THE\nEARL\n\nprose\n" + 60 * "_"
    poem += "\n\nFrom the besieged Ardea\n  all in post,\n\nII.\n\nA\nB\n"
    items = [item for item in read_plays({"rape_of_lucrece_gut.txt": poem}) if isinstance(item, Located)]
    assert [item.record.text for item in items] == ["From the besieged Ardea\nall in post,", "A\nB"]
    assert [item.line for item in items] == [11, 16]
    assert {(item.record.label, item.record.group) for item in items} == {(None, "rape_of_lucrece")}


def test_the_catalogue_has_the_plays_of_the_folio_and_two_others() -> None:
    assert len({play.name for play in PLAYS}) == 37
    genres = [play.genre for play in PLAYS]
    assert [genres.count(genre) for genre in ("comedy", "history", "tragedy")] == [15, 10, 12]
    assert [play.name for play in PLAYS if play.folio is None] == ["pericles", "troilus_and_cressida"]


@pytest.mark.parametrize(
    ("heading", "author"),
    [
        ("FALSTAFF", "Sir John Falstaff"),
        ("KING", "King"),
        ("CAESAR", "Caesar"),
        ("YORK", "Duke of York"),
        ("FIRST LORD", "First Lord"),
        ("LEWIS", "Lewis XI"),
        ("SHALLOW", "Shallow"),
        ("ARCH", "Arch"),
    ],
)
def test_an_unambiguous_heading_becomes_a_full_name(heading: str, author: str) -> None:
    persons = [
        "KING HENRY the Sixth.",
        "SIR JOHN FALSTAFF.",
        "JULIUS CAESAR",
        "OCTAVIUS CAESAR, triumvir.",
        "DUKE OF YORK.",
        "DUCHESS OF YORK.",
        "LEWIS XI, King of France.",
        "SHALLOW and SILENCE, country justices.",
        "ARCHIBALD, friend of the ARCHBISHOP OF ELY.",
    ]
    assert Cast(persons, [Speech(heading, "text", 1)], ()).authors == {heading: author}


def test_roles_and_places_are_not_names() -> None:
    cast = Cast(["THE DUKE OF VENICE", "PORTIA, a rich heiress", "LAUNCELOT GOBBO, a clown"], [], ["Leah"])
    assert cast.names == {"portia", "launcelot", "gobbo", "leah"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Romeo's love", ["Romeo"]),
        ("O Julius Caesar, Caesar!", ["Julius Caesar", "Caesar"]),
        ("Sir Toby Belch", ["Toby Belch"]),
        ("romeo, Romeos, Romeo-like", []),
        ("Speed thee.\nSpeed! O good Speed", ["Speed"]),
        ("and Mistress Speed--Speed on", ["Speed"]),
        ("Ague-Cheek and Sir Andrew Ague-cheek", ["Ague-Cheek", "Andrew Ague-cheek"]),
    ],
)
def test_spans_of_names(text: str, expected: list[str]) -> None:
    names = frozenset({"romeo", "julius", "caesar", "toby", "belch", "speed", "andrew", "ague-cheek"})
    spans = find_entities(text, names, frozenset({"speed"}))
    assert [text[span.start : span.end] for span in spans] == expected


def test_spelling_keys_are_equal_for_variants_and_differ_between_words() -> None:
    for old, new in (
        ("haue", "have"),
        ("vpon", "upon"),
        ("Iuliet", "Juliet"),
        ("bloudie", "bloudy"),
        ("selfe", "self"),
    ):
        assert spelling_key(old) == spelling_key(new)
    assert len({spelling_key(word) for word in ("love", "live", "leave", "loud")}) == 4


def test_speakers_and_names_are_matched_by_context() -> None:
    modern = [
        Speech("TOUCHSTONE", "when I was at home I was in a better place", 1),
        Speech("ANTONY", "I come to bury good Enobarbus not to praise him", 2),
    ]
    folio = [
        Speech("Clo", "when I was at home I was in a better place", 1),
        Speech("Ant", "I come to burie good Ænobarbus not to praise him", 2),
        Speech("Mes", "Newes", 3),
    ]
    assert Alignment(modern, folio).speakers() == {"Clo": "TOUCHSTONE", "Ant": "ANTONY"}
    assert Alignment(modern, folio).names(["enobarbus", "home"]) == {"ænobarbus"}
