"""Unicode normalisation with alignment: which character of the original each normalised character came from.

The normaliser is that of the `tokenizers` library, not Python's `unicodedata`: its tables do not change with the
version of Python, and the Hugging Face tokenizer of the same vocabulary normalises by the same code. The two
libraries differ in characters that were added to Unicode after the tables of `tokenizers` were made (73 of all
characters, with Python 3.11 and tokenizers 0.23): those are left as they are.

>>> normalise("ﬁn cafe\\u0301", "NFKC")
'fin café'
>>> aligned("ﬁn e\\u0301", "NFKC").starts.tolist()
[0, 0, 1, 2, 3, 5]
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers

from cclm_core.text.code_points import refuse_surrogates

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


class Aligned(NamedTuple):
    """A normalised text and where its characters came from.

    Attributes:
        text: (N characters) the normalised text.
        starts: (N + 1,) int32, not decreasing: the index in the original of the character that the k-th normalised
            one came from, the first where it came from several; last, the length of the original.
    """

    text: str
    starts: npt.NDArray[np.int32]


def normalise(text: str, form: Form | None) -> str:
    """The normal form of `text`; with `form` None, `text` itself. A normal form is its own normal form.

    Raises:
        DataError: a lone surrogate, where `form` is not None.
    """
    if form is None or text.isascii():
        return text
    refuse_surrogates(text)
    return str(normaliser(form).normalize_str(text))


def aligned(text: str, form: Form | None) -> Aligned:
    """The normal form of `text` with the origin of each of its characters.

    Raises:
        DataError: a lone surrogate.
    """
    refuse_surrogates(text)
    if form is None or text.isascii():
        return Aligned(text, np.arange(len(text) + 1, dtype=np.int32))
    encoding = _bytes_of(form).encode(text)
    octets = np.array(encoding.ids, dtype=np.uint8)
    origins = np.array([start for start, _ in encoding.offsets], dtype=np.int32)
    is_first = (octets & 0xC0) != 0x80  # a byte that continues a character is 10xxxxxx
    return Aligned(octets.tobytes().decode(), np.append(origins[is_first], np.int32(len(text))))


@cache
def normaliser(form: Form) -> Any:
    """The normaliser of the `tokenizers` library for one form."""
    return getattr(normalizers, form)()


@cache
def _bytes_of(form: Form) -> Any:
    """A tokenizer that turns the normal form of a text into its UTF-8 bytes: id = byte, offsets in the original."""
    tokenizer = Tokenizer(models.BPE(vocab={f"<0x{k:02X}>": k for k in range(256)}, merges=[], byte_fallback=True))
    tokenizer.normalizer = normaliser(form)
    return tokenizer
