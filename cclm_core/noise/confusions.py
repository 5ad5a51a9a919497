"""Characters that look, scan or sound alike: the tables of the kinds of noise in `CONFUSIONS`."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_PATTERN = 4
"""Maximum length of a pattern in characters."""


class ConfusionTable(NamedTuple):
    """The data of one kind of noise.

    Attributes:
        description: what the kind does, in one sentence.
        pairs: returns pairs of a pattern of 1 to `MAX_PATTERN` characters and a replacement.
    """

    description: str
    pairs: Callable[[], Iterator[tuple[str, str]]]


# Letters of other scripts that look the same in most fonts: the pairs for Latin letters, selected from
# confusables.txt of Unicode Technical Standard 39, "Unicode security mechanisms".
_HOMOGLYPHS = {
    "a": "\u0430", "c": "\u0441\u03f2", "d": "\u0501", "e": "\u0435", "h": "\u04bb", "i": "\u0456", "j": "\u0458\u03f3",
    "o": "\u043e\u03bf", "p": "\u0440\u03c1", "q": "\u051b", "s": "\u0455", "v": "\u03bd", "w": "\u051d",
    "x": "\u0445", "y": "\u0443",
    "A": "\u0410\u0391", "B": "\u0412\u0392", "C": "\u0421", "E": "\u0415\u0395", "H": "\u041d\u0397",
    "I": "\u0406\u0399", "J": "\u0408\u037f", "K": "\u041a\u039a", "M": "\u041c\u039c", "N": "\u039d",
    "O": "\u041e\u039f", "P": "\u0420\u03a1", "S": "\u0405", "T": "\u0422\u03a4", "X": "\u0425\u03a7",
    "Y": "\u04ae\u03a5", "Z": "\u0396",
}  # fmt: skip

# Confusions of optical character recognition: strokes that touch or break. Both directions.
_OCR = """
    rn m   cl d   vv w   nn m   ii u   li h   lc k   ri n   tl d   fi h   ol d   rr n   IJ U   VV W   I< K   |) D
    e c    c e   o c    a o    h b    u v    n u    i l    i j    f t    g q    y v    s a    r n    t l
    B 8    S 5    O 0    I l    l 1    I 1    Z 2    G 6    D O    Q O    E F    P F    R K    U V    C G    M N
    b 6    g 9    q 9    z 2    o 0    T 7    ! l    | l    . ,    ; :
"""

# Digits and signs typed for letters, on purpose or by mistake, and letters typed for digits.
_LOOKALIKES = "a 4   a @   b 8   e 3   g 9   i 1   i !   l 1   o 0   s 5   s $   t 7   z 2   A 4   B 8   E 3   G 6   I 1   O 0   S 5   S $   T 7   Z 2"  # noqa: E501

# English spellings of the same sound, as in spelling by ear. Both directions unless marked with >.
_PHONETIC = """
    ph f    ck k    c k    ee ea    ei ie    ai ay    ou ow    oo ue    au aw    er ar    er or    ant ent   ance ence
    able ible    sion tion    cks x    s z    y i    x ks    dge ge    gh> g    kn> n    wr> r    wh> w    qu> kw
    sc> s    mb> m    ght> t    tch> ch    ps> s    tion> shun    ough> uff    ough> o    ea> e    cc> c    ss> s
    ll> l    tt> t    mm> m    nn> n    rr> r    pp> p    ff> f    dd> d    gg> g    ci> si    ce> se    ate> ait
"""


def homoglyphs() -> Iterator[tuple[str, str]]:
    """Pairs of a letter and an identical-looking letter of another script, in both directions."""
    for letter, homoglyphs in _HOMOGLYPHS.items():
        for homoglyph in homoglyphs:
            yield letter, homoglyph
            yield homoglyph, letter


def ocr() -> Iterator[tuple[str, str]]:
    """Pairs of one or two characters that scanners confuse, in both directions."""
    return _both_directions(_OCR)


def lookalikes() -> Iterator[tuple[str, str]]:
    """Pairs of a letter and a similar digit or sign, in both directions."""
    return _both_directions(_LOOKALIKES)


def phonetic() -> Iterator[tuple[str, str]]:
    """Pairs of one to four letters that can sound the same, in lowercase, capitalized, and in uppercase."""
    for spelling, replacement in _both_directions(_PHONETIC):
        variants = [
            (spelling, replacement),
            (spelling.capitalize(), replacement.capitalize()),
            (spelling.upper(), replacement.upper()),
        ]
        yield from dict.fromkeys(variants)


def _both_directions(table: str) -> Iterator[tuple[str, str]]:
    words = table.split()
    for left, right in zip(words[::2], words[1::2], strict=True):
        yield left.removesuffix(">"), right
        if not left.endswith(">"):
            yield right, left


CONFUSIONS = {
    "homoglyph": ConfusionTable("Replaces a letter with an identical-looking one of another script.", homoglyphs),
    "ocr": ConfusionTable("Replaces characters with others that a scanner confuses with them.", ocr),
    "lookalike": ConfusionTable("Replaces a letter with a similar digit or sign, or the reverse.", lookalikes),
    "phonetic": ConfusionTable("Replaces letters with another spelling of the same sound.", phonetic),
}
