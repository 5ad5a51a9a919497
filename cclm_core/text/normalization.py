"""Unicode normalization with alignment: which original character each normalized character came from.

It uses the `tokenizers` library, not Python's `unicodedata`: the tables do not change with the version of Python, and
the Hugging Face tokenizer of the same vocabulary runs the same code. The two libraries differ in 73 characters (Python
3.11, tokenizers 0.23), which are newer than the tables of `tokenizers`. Those characters are not changed.

>>> normalize("ﬁn cafe\\u0301", "NFKC")
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
    """A normalized text and the origin of its characters.

    Attributes:
        text: the normalized text of N characters.
        starts: (N + 1,) int32, nondecreasing: the index in the original of the (first) character that each normalized
            character came from; the last value is the length of the original.
    """

    text: str
    starts: npt.NDArray[np.int32]


def normalize(text: str, form: Form | None) -> str:
    """The normal form of `text`; `text` itself if `form` is None.

    Raises:
        DataError: a lone surrogate, if `form` is not None.
    """
    if form is None or text.isascii():
        return text
    refuse_surrogates(text)
    return str(normalizer(form).normalize_str(text))


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
    is_first = (octets & 0xC0) != 0x80  # continuation bytes are 10xxxxxx
    return Aligned(octets.tobytes().decode(), np.append(origins[is_first], np.int32(len(text))))


@cache
def normalizer(form: Form) -> Any:
    """The normalizer of the `tokenizers` library for one form."""
    return getattr(normalizers, form)()


@cache
def _bytes_of(form: Form) -> Any:
    """A tokenizer from a text to the UTF-8 bytes of its normal form. Id k is byte k; offsets refer to the original."""
    tokenizer = Tokenizer(models.BPE(vocab={f"<0x{k:02X}>": k for k in range(256)}, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizer(form)
    return tokenizer
