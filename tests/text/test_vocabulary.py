"""The vocabulary: lossless encoding, correct ids and offsets, clear errors."""

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
def test_decoding_restores_the_text_for_any_alphabet(text: str, alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    ids = preprocessor.encode(text)
    assert ids.dtype == np.uint16
    assert preprocessor.decode(ids) == text
    assert int(ids.max(initial=0)) < preprocessor.num_ids


@given(TEXTS, ALPHABETS, st.booleans())
def test_offsets_map_every_id_to_its_character(text: str, alphabet: str, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), alphabet)
    ids, offsets = preprocessor.encode(text), preprocessor.offsets(text)
    assert len(ids) == len(offsets)
    for index, character in enumerate(text):
        assert preprocessor.decode(ids[offsets == index]) == character
    assert ids[offsets == -1].tolist() == [CLS] * cls


@given(st.lists(TEXTS, max_size=8), ALPHABETS, st.booleans())
def test_a_batch_gives_the_same_ids_as_single_texts(texts: list[str], alphabet: str, cls: bool) -> None:
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
    unknown = [sum(character not in alphabet for character in text) for text in texts]
    assert preprocessor.encode_ragged(texts).fallbacks.tolist() == unknown


def test_ids_are_ordered_by_frequency_then_by_code_point() -> None:
    preprocessor = Preprocessor().fit(["cab", "ca", "c", "z"])
    assert preprocessor.alphabet == "cabz"
    assert preprocessor.encode("zc").tolist() == [FIRST_CHARACTER + 3, FIRST_CHARACTER]
    assert preprocessor.num_ids == 264


def test_ties_are_ordered_by_code_point_in_a_large_alphabet() -> None:
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    assert Preprocessor().fit([letters[::-1], "zz"]).alphabet == "z" + letters


def test_unknown_characters_become_their_utf8_bytes() -> None:
    preprocessor = Preprocessor()
    for character in "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff":
        ids = preprocessor.encode(f"{character}{character}")
        assert ids.tolist() == [FIRST_BYTE + byte for byte in character.encode() * 2]
        assert preprocessor.decode(ids) == character * 2


def test_characters_beyond_the_limits_become_bytes() -> None:
    texts = ["aaaa bbb cc é"]
    assert Preprocessor(VocabularyConfig(min_count=2)).fit(texts).alphabet == "a bc"
    small = Preprocessor(VocabularyConfig(max_characters=1)).fit(texts)
    assert small.alphabet == "a"
    assert small.encode("aé").tolist() == [260, FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9]
    only_bytes = Preprocessor(VocabularyConfig(max_characters=0)).fit(texts)
    assert only_bytes.decode(only_bytes.encode(MIXED)) == MIXED


def test_fitting_does_not_depend_on_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [MIXED, string.printable, "", "the end"] * 5
    whole = Preprocessor().fit(some).alphabet
    monkeypatch.setattr(texts, "_CHUNK", 7)
    assert Preprocessor().fit(some).alphabet == whole
    assert set(whole) == set("".join(some))


def test_fitting_keeps_at_most_two_chunks_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert most < 40  # one chunk is counted, the next is being filled


def test_fitting_again_replaces_the_alphabet() -> None:
    preprocessor = Preprocessor().fit(["abc"]).fit(["xyz"])
    assert preprocessor.alphabet == "xyz"
    assert preprocessor.decode(preprocessor.encode("abc")) == "abc"


def test_fit_reads_the_first_column_of_strings_of_a_dataset() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"number": [1, 2], "text": ["ab", "a"], "title": ["x", "y"]})
    assert Preprocessor().fit(dataset).alphabet == "ab"
    assert Preprocessor().fit(dataset, column="title").alphabet == "xy"
    assert Preprocessor().fit(dataset.to_iterable_dataset()).alphabet == "ab"
    with pytest.raises(
        DataError, match=r"column 'body' not found in the dataset\. Choose one of \['number', 'text', 'title'\]"
    ):
        Preprocessor().fit(dataset, column="body")
    with pytest.raises(DataError, match="must have a column of strings"):
        Preprocessor().fit(dataset.select_columns("number"))
    with pytest.raises(DataError, match=r"several splits\. Choose one of \['train'\]"):
        Preprocessor().fit(datasets.DatasetDict({"train": dataset}))


def test_texts_must_be_an_iterable_of_strings() -> None:
    with pytest.raises(DataError, match=r"got one str\. Put it into a list"):
        Preprocessor().fit("banana")
    with pytest.raises(DataError, match="got int at index 1: 7"):
        Preprocessor().fit(["a", 7])


@pytest.mark.parametrize("surrogate", ["\ud800", "\udfff"])
def test_the_error_for_a_lone_surrogate_contains_its_position(surrogate: str) -> None:
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


def test_decoding_skips_special_ids_and_replaces_invalid_utf8() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    a = FIRST_CHARACTER
    assert preprocessor.decode([CLS, a, MASK, a + 1, END, PAD]) == "ab"
    assert preprocessor.decode([FIRST_BYTE + 0xC3, a, FIRST_BYTE + 0xA9]) == "\ufffda\ufffd"
    assert preprocessor.decode([]) == ""
    for wrong in (-1, preprocessor.num_ids):
        with pytest.raises(DataError, match=f"between 0 and 261, got {wrong}"):
            preprocessor.decode([a, wrong])


def test_string_to_array_pads_and_truncates_between_characters() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    assert preprocessor.string_to_array("ab").tolist() == [260, 261]
    assert preprocessor.string_to_array("ab", 4).tolist() == [260, 261, PAD, PAD]
    for length in range(5):
        row = preprocessor.string_to_array("aé漢b", length, truncate=True)
        assert len(row) == length
        assert preprocessor.decode(row) == ["", "a", "a", "aé", "aé"][length]


def test_saving_and_loading_keeps_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor.json"
    saved = Preprocessor(VocabularyConfig(min_count=1, cls=True)).fit([MIXED + "\"\\'"])
    saved.save(path)
    loaded = Preprocessor.load(path)
    assert (loaded.alphabet, loaded.config, loaded.digest) == (saved.alphabet, saved.config, saved.digest)
    assert loaded.encode(MIXED).tolist() == saved.encode(MIXED).tolist()


def test_load_from_reads_a_saved_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor.json"
    config = VocabularyConfig(cls=True, max_length=64)
    saved = Preprocessor(config).fit([MIXED])
    saved.save(path)
    for loaded in (
        Preprocessor(load_from=path),
        Preprocessor(load_from=str(path)),
        Preprocessor(config, saved.alphabet, max_example_len=64, load_from=path),
    ):
        assert (loaded.alphabet, loaded.config, loaded.digest) == (saved.alphabet, saved.config, saved.digest)


def test_load_from_refuses_arguments_that_contradict_the_file(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor.json"
    Preprocessor(VocabularyConfig(max_length=64), "ab").save(path)
    with pytest.raises(ConfigError, match=r"`config` contradicts .*: max_length must be 64, got None\. Omit `config`"):
        Preprocessor(VocabularyConfig(), load_from=path)
    with pytest.raises(ConfigError, match=r"`alphabet` contradicts .*, got 'abc'\. Omit `alphabet`"):
        Preprocessor(alphabet="abc", load_from=path)
    with pytest.raises(ConfigError, match="max_example_len 32 contradicts max_length 64"):
        Preprocessor(max_example_len=32, load_from=path)
    with pytest.raises(ArtifactError, match=r"missing\.json not found"):
        Preprocessor(load_from=tmp_path / "missing.json")


def test_load_from_accepts_a_row_length_that_the_file_does_not_set(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor.json"
    saved = Preprocessor(alphabet="ab")
    saved.save(path)
    loaded = Preprocessor(max_example_len=32, load_from=path)
    assert loaded.max_example_len == 32 and loaded.digest == saved.digest


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda content: content.update(alphabet="ba"), IntegrityError, "was altered"),
        (lambda content: content.update(alphabet="aa"), ArtifactError, "must not repeat a character, got 'a'"),
        (lambda content: content.update(alphabet="\ud800"), ArtifactError, "lone surrogate"),
        (lambda content: content.update(alphabet=["a"]), ArtifactError, "damaged"),
        (lambda content: content.update(format="cclm-embedder"), ArtifactError, "is not a vocabulary"),
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


def test_files_without_a_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.json not found"):
        Preprocessor.load(tmp_path / "none.json")
    path = tmp_path / "cut.json"
    for content in ('{"format": "cclm-prep', "[]", "null"):
        path.write_text(content)
        with pytest.raises(ArtifactError, match=r"cut\.json (is not valid JSON|must contain a JSON object)"):
            Preprocessor.load(path)


def test_the_digest_depends_only_on_what_determines_the_ids() -> None:
    digest = Preprocessor(alphabet="ab").digest
    assert Preprocessor(alphabet="ba").digest != digest
    assert Preprocessor(VocabularyConfig(cls=True), alphabet="ab").digest != digest
    assert Preprocessor(VocabularyConfig(min_count=9), alphabet="ab").digest == digest


def test_the_alphabet_is_distinct_and_limited() -> None:
    with pytest.raises(DataError, match="must not repeat a character, got 'b'"):
        Preprocessor(alphabet="abcb")
    with pytest.raises(ConfigError, match="max_characters"):
        VocabularyConfig.parse({"max_characters": 2**16}, "params.yaml: vocabulary")
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    with pytest.raises(DataError, match="at most 65276 characters"):
        Preprocessor(alphabet=every)
    largest = Preprocessor(alphabet=every[:65276])
    assert largest.encode(every[65275]).tolist() == [65535]
