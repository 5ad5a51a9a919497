"""Encodes and decodes 10,000 random texts from all planes of Unicode, with `Preprocessor` and with `tokenizers`."""

import random

import numpy as np
import pytest

from cclm_core.text import alphabet as alphabets
from cclm_core.text.alphabet import Alphabet
from cclm_core.text.tokenizer import character_tokenizer
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig

NUM_TEXTS = 10_000


def generated(seed: int) -> list[str]:
    """Texts of 0 to 60 characters from one or several planes, without surrogates."""
    draw = random.Random(seed)
    planes = [range(0x80), range(0x80, 0xD800), range(0xE000, 0x10000)]
    planes += [range(plane << 16, (plane + 1) << 16) for plane in range(1, 17)]
    texts = []
    for _ in range(NUM_TEXTS):
        selected = draw.choices(planes, k=draw.choice([1, 1, 2, 20]))
        texts.append("".join(chr(draw.choice(draw.choice(selected))) for _ in range(draw.randrange(61))))
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return generated(1)


def test_the_random_texts_cover_every_plane(texts: list[str]) -> None:
    points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
    assert set((points >> 16).tolist()) == set(range(17))
    assert sum(text.isascii() for text in texts) > 300
    assert "" in texts


@pytest.mark.parametrize("max_characters", [0, 300, 65276])
@pytest.mark.parametrize("cls", [False, True])
def test_every_text_is_restored_by_preprocessor_and_tokenizer(texts: list[str], max_characters: int, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(max_characters=max_characters, cls=cls)).fit(texts)
    ids, lengths, fallbacks = preprocessor.encode_ragged(texts)
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    known = set(preprocessor.alphabet)
    assert fallbacks.tolist() == [sum(character not in known for character in text) for text in texts]
    assert [preprocessor.decode(row) for row in rows] == texts
    assert all(preprocessor.encode(text).tolist() == row.tolist() for text, row in zip(texts, rows, strict=True))
    tokenizer = character_tokenizer(preprocessor)
    encodings = tokenizer.encode_batch(texts)
    assert [encoding.ids for encoding in encodings] == [row.tolist() for row in rows]
    assert tokenizer.decode_batch([encoding.ids for encoding in encodings]) == texts


@pytest.mark.parametrize("slice_length", [1, 7, 64, 1 << 20])
def test_ids_do_not_depend_on_the_length_of_slices(
    texts: list[str], slice_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = texts[:400]
    alphabet = Alphabet("".join(sorted(set("".join(some[::2])))))
    lengths = np.array([len(text) for text in some])
    whole = alphabet.encode(some, lengths)
    monkeypatch.setattr(alphabets, "_SLICE", slice_length)
    for parts in (alphabet.encode(some, lengths), alphabet.encode(["".join(some)], np.array([lengths.sum()]))):
        for left, right in zip(whole, parts, strict=True):
            assert left.tolist() == right.tolist()
    assert alphabet.decode(whole.ids) == "".join(some)


def test_a_text_with_many_unknown_characters_at_its_end_is_encoded() -> None:
    """The spare room for bytes is too small here and must grow."""
    preprocessor = Preprocessor(alphabet="a")
    text = "a" * 100_000 + "🚀" * 50_000
    ids = preprocessor.encode(text)
    assert len(ids) == 300_000
    assert preprocessor.decode(ids) == text
