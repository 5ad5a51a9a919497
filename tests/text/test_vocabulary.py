"""The vocabulary: nothing is lost, ids are where they should be, what cannot be encoded is named."""

import json
import string
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, DataError, IntegrityError
from cclm_core.text import texts
from cclm_core.text.vocabulary import (
    CLS,
    END,
    FIRST_BYTE,
    FIRST_CHARACTER,
    MASK,
    PAD,
    Preprocessor,
    VocabularyConfig,
)

TEXTS = st.text(max_size=60)
ALPHABETS = st.lists(st.characters(exclude_categories=["Cs"]), unique=True, max_size=40).map("".join)
MIXED = "naïve 漢字 👩‍🚀 \x00\r\n\u2028 ﬁn\U0010ffff"


@given(TEXTS, ALPHABETS, st.booleans())
def test_text_comes_back_whatever_the_alphabet(text: str, alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    ids = preprocessor.encode(text)
    assert ids.dtype == np.uint16
    assert preprocessor.decode(ids) == text
    assert int(ids.max(initial=0)) < preprocessor.num_ids


@given(TEXTS, ALPHABETS, st.booleans())
def test_every_id_names_the_character_that_it_encodes(text: str, alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    ids, offsets = preprocessor.encode(text), preprocessor.offsets(text)
    assert len(ids) == len(offsets)
    for index, character in enumerate(text):
        assert preprocessor.decode(ids[offsets == index]) == character
    assert ids[offsets == -1].tolist() == [CLS] * cls


@given(st.lists(TEXTS, max_size=8), ALPHABETS, st.booleans())
def test_a_batch_holds_what_each_text_alone_gives(texts: list[str], alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    alone = [preprocessor.encode(text) for text in texts]
    batch = preprocessor.encode_batch(texts)
    assert batch.ids.dtype == np.int64
    assert batch.ids.shape == (len(texts), max(map(len, alone), default=0))
    assert batch.lengths.tolist() == [len(ids) for ids in alone]
    for row, ids in zip(batch.ids, alone, strict=True):
        assert row[: len(ids)].tolist() == ids.tolist()
        assert (row[len(ids) :] == PAD).all()
    assert preprocessor.decode_batch(batch.ids) == texts
    lost = [sum(character not in alphabet for character in text) for text in texts]
    assert preprocessor.encode_ragged(texts).fallbacks.tolist() == lost


def test_ids_follow_frequency_and_ties_follow_the_code_point() -> None:
    preprocessor = Preprocessor().fit(["cab", "ca", "c", "z"])
    assert preprocessor.alphabet == "cabz"
    assert preprocessor.encode("zc").tolist() == [FIRST_CHARACTER + 3, FIRST_CHARACTER]
    assert preprocessor.num_ids == 264


def test_ties_follow_the_code_point_in_a_large_alphabet() -> None:
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    assert Preprocessor().fit([letters[::-1], "zz"]).alphabet == "z" + letters


def test_as_many_bytes_as_utf8_has() -> None:
    preprocessor = Preprocessor()
    for character in "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff":
        ids = preprocessor.encode(f"{character}{character}")
        assert ids.tolist() == [FIRST_BYTE + byte for byte in character.encode() * 2]
        assert preprocessor.decode(ids) == character * 2


def test_rare_characters_and_those_beyond_the_limit_become_bytes() -> None:
    texts = ["aaaa bbb cc é"]
    assert Preprocessor(VocabularyConfig(min_count=2)).fit(texts).alphabet == "a bc"
    small = Preprocessor(VocabularyConfig(max_characters=1)).fit(texts)
    assert small.alphabet == "a"
    assert small.encode("aé").tolist() == [260, FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9]
    only_bytes = Preprocessor(VocabularyConfig(max_characters=0)).fit(texts)
    assert only_bytes.decode(only_bytes.encode(MIXED)) == MIXED


def test_fitting_does_not_depend_on_how_texts_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [MIXED, string.printable, "", "the end"] * 5
    whole = Preprocessor().fit(some).alphabet
    monkeypatch.setattr(texts, "_CHUNK", 7)
    assert Preprocessor().fit(some).alphabet == whole
    assert set(whole) == set("".join(some))


def test_fitting_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a chunk of texts is alive at once."""
    monkeypatch.setattr(texts, "_CHUNK", 100)
    alive = weakref.WeakSet()
    most = 0

    class Text(str):
        __slots__ = ("__weakref__",)

    def some() -> Iterator[str]:
        nonlocal most
        for number in range(1000):
            text = Text(f"text {number}")
            alive.add(text)
            most = max(most, len(alive))
            yield text

    assert set(Preprocessor().fit(some()).alphabet) == set("text 0123456789")
    assert most < 40  # the chunk that is counted, and the one that is being filled


def test_fitting_again_starts_anew() -> None:
    preprocessor = Preprocessor().fit(["abc"]).fit(["xyz"])
    assert preprocessor.alphabet == "xyz"
    assert preprocessor.decode(preprocessor.encode("abc")) == "abc"


def test_fits_a_dataset_by_its_first_column_of_strings() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"number": [1, 2], "text": ["ab", "a"], "title": ["x", "y"]})
    assert Preprocessor().fit(dataset).alphabet == "ab"
    assert Preprocessor().fit(dataset, column="title").alphabet == "xy"
    assert Preprocessor().fit(dataset.to_iterable_dataset()).alphabet == "ab"
    with pytest.raises(DataError, match=r"must have a column 'body', got \['number', 'text', 'title'\]"):
        Preprocessor().fit(dataset, column="body")
    with pytest.raises(DataError, match="must have a column of strings"):
        Preprocessor().fit(dataset.select_columns("number"))
    with pytest.raises(DataError, match=r"several splits; choose one of \['train'\]"):
        Preprocessor().fit(datasets.DatasetDict({"train": dataset}))


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="got one str; put it into a list"):
        Preprocessor().fit("banana")
    with pytest.raises(DataError, match="number 1 is int: 7"):
        Preprocessor().fit(["a", 7])


@pytest.mark.parametrize("surrogate", ["\ud800", "\udfff"])
def test_lone_surrogates_are_refused_by_name_and_position(surrogate: str) -> None:
    preprocessor = Preprocessor(alphabet="ab")
    name = f"U\\+{ord(surrogate):04X} at character 2"
    for call in (preprocessor.encode, preprocessor.offsets, preprocessor.string_to_array):
        with pytest.raises(DataError, match=f"lone surrogate {name}"):
            call("ab" + surrogate)
    with pytest.raises(DataError, match=f"text 1: .*{name}"):
        preprocessor.encode_batch(["fine", "ab" + surrogate])
    with pytest.raises(DataError, match=name):
        Preprocessor().fit(["ab" + surrogate])
    with pytest.raises(DataError, match=name):
        Preprocessor(alphabet="ab" + surrogate)


def test_decoding_leaves_special_ids_out_and_marks_bytes_that_are_no_text() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    a = FIRST_CHARACTER
    assert preprocessor.decode([CLS, a, MASK, a + 1, END, PAD]) == "ab"
    assert preprocessor.decode([FIRST_BYTE + 0xC3, a, FIRST_BYTE + 0xA9]) == "\ufffda\ufffd"
    assert preprocessor.decode([]) == ""
    for wrong in (-1, preprocessor.num_ids):
        with pytest.raises(DataError, match=f"between 0 and 261, got {wrong}"):
            preprocessor.decode([a, wrong])


def test_string_to_array_pads_and_cuts_between_characters() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    assert preprocessor.string_to_array("ab").tolist() == [260, 261]
    assert preprocessor.string_to_array("ab", 4).tolist() == [260, 261, PAD, PAD]
    for length in range(5):
        cut = preprocessor.string_to_array("aé漢b", length, truncate=True)
        assert len(cut) == length
        assert preprocessor.decode(cut) == ["", "a", "a", "aé", "aé"][length]


def test_a_saved_vocabulary_is_the_same_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor.json"
    saved = Preprocessor(VocabularyConfig(min_count=1, cls=True)).fit([MIXED + "\"\\'"])
    saved.save(path)
    loaded = Preprocessor.load(path)
    assert (loaded.alphabet, loaded.config, loaded.digest) == (saved.alphabet, saved.config, saved.digest)
    assert loaded.encode(MIXED).tolist() == saved.encode(MIXED).tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda content: content.update(alphabet="ba"), IntegrityError, "was altered"),
        (lambda content: content.update(alphabet="aa"), ArtifactError, "'a' stands in it twice"),
        (lambda content: content.update(alphabet="\ud800"), ArtifactError, r"U\+D800"),
        (lambda content: content.update(alphabet=["a"]), ArtifactError, "damaged"),
        (lambda content: content.update(format="cclm-embedder"), ArtifactError, "must be a vocabulary"),
        (lambda content: content.pop("digest"), ArtifactError, "damaged"),
        (lambda content: content["config"].update(min_cuont=3), ConfigError, "did you mean 'min_count'"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: object, error: type[CclmError], message: str) -> None:
    path = tmp_path / "preprocessor.json"
    Preprocessor(alphabet="ab").save(path)
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises(error, match=message):
        Preprocessor.load(path)


def test_files_that_are_no_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="must exist"):
        Preprocessor.load(tmp_path / "none.json")
    path = tmp_path / "cut.json"
    for content in ('{"format": "cclm-prep', "[]", "null"):
        path.write_text(content)
        with pytest.raises(ArtifactError, match=r"cut\.json must"):
            Preprocessor.load(path)


def test_the_digest_tells_apart_what_gives_other_ids_and_nothing_else() -> None:
    digest = Preprocessor(alphabet="ab").digest
    assert Preprocessor(alphabet="ba").digest != digest
    assert Preprocessor(VocabularyConfig(cls=True), alphabet="ab").digest != digest
    assert Preprocessor(VocabularyConfig(min_count=9), alphabet="ab").digest == digest


def test_limits_of_the_alphabet() -> None:
    with pytest.raises(DataError, match="distinct, but 'b' stands in it twice"):
        Preprocessor(alphabet="abcb")
    with pytest.raises(ConfigError, match="max_characters"):
        VocabularyConfig.parse({"max_characters": 2**16}, "params.yaml: vocabulary")
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    with pytest.raises(DataError, match="at most 65276 characters"):
        Preprocessor(alphabet=every)
    largest = Preprocessor(alphabet=every[:65276])
    assert largest.encode(every[65275]).tolist() == [65535]
