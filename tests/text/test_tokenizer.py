"""The Hugging Face tokenizer gives the same ids and offsets as `Preprocessor`, for every text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from cclm_core.text.tokenizer import SPECIAL_TOKENS, character_tokenizer
from cclm_core.text.vocabulary import CLS, END, PAD, Preprocessor, VocabularyConfig

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
# Texts that tokenizers often treat specially: markers of spaces, whitespace, joiners, combining marks, NUL, names of
# special tokens and of bytes.
TROUBLE = st.sampled_from(
    [
        *("\u2581", "\u0120", "\u010a", " ", "  ", "\n", "\r\n", "\t", "\x00", "\u200d", "\ufe0f", "\u0301", "\u0323"),
        *("e\u0301", "\u00a0", "\u2028", "\ufeff", "\ufffd", "\U0001f469\u200d\U0001f680", "\U0010ffff"),
        *("\ud55c", "\u1112\u1161\u11ab", "\ufb01", "\u00bd", "\u00c5", "\u212b"),
        *(*SPECIAL_TOKENS, "<0x41>", "<0xC3>", "##a", "</w>", "[UNK]", "<unk>"),
    ]
)
TEXTS = st.lists(TROUBLE | st.text(max_size=8), max_size=12).map("".join)
ALPHABETS = st.lists(st.characters(exclude_categories=["Cs"]) | TROUBLE.filter(lambda t: len(t) == 1), unique=True).map(
    "".join
)


def check_equal(tokenizer: Any, preprocessor: Preprocessor, text: str) -> None:
    """Compares ids, starts of offsets, and the decoded text."""
    encoding = tokenizer.encode(text)
    assert encoding.ids == preprocessor.encode(text).tolist()
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
    assert np.where(special, -1, starts).tolist() == preprocessor.offsets(text).tolist()
    assert tokenizer.decode(encoding.ids) == preprocessor.decode(encoding.ids)
    if preprocessor.config.normalisation is None:
        assert tokenizer.decode(encoding.ids) == text
        assert all(end - start == 1 for start, end in np.array(encoding.offsets).reshape(-1, 2)[~special])


@settings(max_examples=500)
@given(TEXTS, ALPHABETS, st.booleans())
def test_ids_and_offsets_equal_those_of_the_preprocessor(text: str, alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    check_equal(character_tokenizer(preprocessor), preprocessor, text)
    own = Preprocessor(VocabularyConfig(cls=cls)).fit([text])  # without bytes
    check_equal(character_tokenizer(own), own, text)


@given(TEXTS, ALPHABETS, st.booleans(), st.sampled_from(FORMS))
def test_ids_and_offsets_are_equal_with_normalization(text: str, alphabet: str, cls: bool, form: Any) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls, normalisation=form), alphabet)
    check_equal(character_tokenizer(preprocessor), preprocessor, text)


@given(st.lists(TEXTS, max_size=6), st.booleans(), st.integers(1, 9))
def test_a_padded_batch_equals_encode_batch(texts: list[str], cls: bool, factor: int) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls, downsample_factor=factor)).fit([*texts[:2], "ab"])
    tokenizer = character_tokenizer(preprocessor)
    tokenizer.enable_padding(pad_id=PAD, pad_token="[PAD]", pad_to_multiple_of=factor)
    batch = preprocessor.encode_batch(texts)
    encodings = tokenizer.encode_batch(texts)
    assert [encoding.ids for encoding in encodings] == batch.ids.tolist()
    assert [sum(encoding.attention_mask) for encoding in encodings] == batch.lengths.tolist()
    assert tokenizer.decode_batch([encoding.ids for encoding in encodings]) == texts


@given(TEXTS, TEXTS, st.booleans())
def test_a_pair_is_two_texts_with_an_end_between(first: str, second: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls)).fit([first])
    encoding = character_tokenizer(preprocessor).encode(first, second)
    left, right = preprocessor.encode(first).tolist(), preprocessor.encode(second).tolist()[cls:]
    assert encoding.ids == [*left, END, *right]
    assert encoding.type_ids == [0] * (len(left) + 1) + [1] * len(right)


@pytest.mark.parametrize("cls", [False, True])
def test_a_saved_tokenizer_gives_the_same_ids(tmp_path: Path, cls: bool) -> None:
    """No setting is missing from tokenizer.json."""
    text = "naïve [CLS] \u2581\u0120\x00\r\n 漢字 [PAD]<0x41>"
    for form in (None, *FORMS):
        preprocessor = Preprocessor(VocabularyConfig(cls=cls, normalisation=form)).fit([text])
        path = tmp_path / "tokenizer.json"
        character_tokenizer(preprocessor).save(str(path))
        loaded = Tokenizer.from_file(str(path))
        for sample in ("", "a", text, text + "é🚀", "[MASK]"):
            check_equal(loaded, preprocessor, sample)
        assert loaded.get_vocab_size() == preprocessor.num_ids


def test_names_of_special_tokens_in_a_text_are_ordinary_text() -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=True)).fit(["".join(SPECIAL_TOKENS)])
    tokenizer = character_tokenizer(preprocessor)
    for name, number in SPECIAL_TOKENS.items():
        assert tokenizer.token_to_id(name) == number
        encoding = tokenizer.encode(f"a {name} b")
        assert encoding.ids.count(number) == (number == CLS)
        assert tokenizer.decode(encoding.ids) == f"a {name} b"


def test_decoding_skips_special_ids() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    tokenizer = character_tokenizer(preprocessor)
    assert tokenizer.decode([CLS, 260, 1, 261, END, PAD, PAD]) == "ab"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([PAD]) == ""


def test_the_largest_alphabet_works() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))[:65276]
    preprocessor = Preprocessor(alphabet=every)
    check_equal(character_tokenizer(preprocessor), preprocessor, every[::7] + "\U0010ffff")
