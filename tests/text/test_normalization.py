"""Unicode normalization: off by default, exact, aligned to the original text."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.corpus.encoded import encode_records
from cclm_core.corpus.records import Entity, Record
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ConfigError, DataError, IntegrityError
from cclm_core.text.normalization import aligned, normalize
from cclm_core.text.vocabulary import FORMAT, Preprocessor, VocabularyConfig

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
MARKS = st.sampled_from("ae\u0301\u0323\u0315\u0300\u05ae\u0344\u1112\u1161\u11ab한국ﬁ½\ufdfaÅ\u212b\u0958 \x00")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | MARKS, max_size=30)


@given(TEXTS, st.sampled_from(FORMS))
def test_decoding_restores_the_normal_form(text: str, form: Any) -> None:
    preprocessor = Preprocessor(VocabularyConfig(normalisation=form)).fit([text[::2]])
    normal = normalize(text, form)
    assert preprocessor.decode(preprocessor.encode(text)) == normal
    assert preprocessor.decode_batch(preprocessor.encode_batch([text, "", text]).ids) == [normal, "", normal]
    assert normalize(normal, form) == normal


@given(TEXTS)
def test_normalization_is_off_by_default(text: str) -> None:
    preprocessor = Preprocessor().fit([text])
    assert preprocessor.config.normalisation is None
    assert preprocessor.decode(preprocessor.encode(text)) == text


@given(TEXTS, st.sampled_from([None, *FORMS]))
def test_the_alignment_is_nondecreasing_and_covers_the_text(text: str, form: Any) -> None:
    normal, starts = aligned(text, form)
    assert normal == normalize(text, form)
    assert len(starts) == len(normal) + 1
    assert (np.diff(starts) >= 0).all()
    assert starts[-1] == len(text)
    assert not len(text) or starts[0] == 0


ASSIGNED = st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"])


@given(st.text(ASSIGNED, max_size=20), st.sampled_from(FORMS))
def test_old_characters_are_normalized_like_unicodedata(text: str, form: Any) -> None:
    recent = {character for character in text if unicodedata.ucd_3_2_0.category(character) == "Cn"}
    if not recent:
        assert normalize(text, form) == unicodedata.normalize(form, text)


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the figures apply to Python 3.11")
def test_the_tables_differ_from_python_in_at_most_73_characters() -> None:
    """Detects changes in either library. No character above plane 2 has a different normal form."""
    characters = [chr(point) for point in range(0x30000) if not 0xD800 <= point < 0xE000]
    for form, most in zip(FORMS, (0, 1, 72, 73), strict=True):
        different = [char for char in characters if normalize(char, form) != unicodedata.normalize(form, char)]
        assert len(different) <= most, f"{form}: {different[:5]}"
        assert all(normalize(char, form) == char for char in different)


def test_offsets_refer_to_the_original_text() -> None:
    preprocessor = Preprocessor(VocabularyConfig(normalisation="NFKC", cls=True), alphabet="afié")
    text = "ﬁ e\u0301a"
    assert preprocessor.encode(text).tolist() == [2, 261, 262, 4 + 32, 263, 260]
    assert preprocessor.offsets(text).tolist() == [-1, 0, 0, 1, 2, 4]


def test_entities_stay_on_their_characters() -> None:
    """If normalization changes a text, id k is not character k."""
    preprocessor = Preprocessor(VocabularyConfig(normalisation="NFC")).fit(["G\u00fclden ab"])
    record = Record("1", "Gu\u0308lden ab", entities=(Entity(8, 10, "X"),))
    encoding = encode_records([record, Record("2", "ab", entities=(Entity(0, 1, "X"),))], preprocessor, ["X"])
    assert preprocessor.decode(encoding.ids[encoding.tags > 0]) == "aba"
    assert encoding.tags.tolist() == [0] * 7 + [1, 2, 0] + [1, 0, 0]


def test_texts_of_a_batch_do_not_combine_with_each_other() -> None:
    preprocessor = Preprocessor(VocabularyConfig(normalisation="NFC"))
    assert preprocessor.decode_batch(preprocessor.encode_batch(["e", "\u0301"]).ids) == ["e", "\u0301"]
    assert preprocessor.fit(["e", "\u0301"]).alphabet == "e\u0301"
    assert preprocessor.fit(["e\u0301"]).alphabet == "é"


def test_the_error_for_a_lone_surrogate_contains_its_code_point() -> None:
    preprocessor = Preprocessor(VocabularyConfig(normalisation="NFC"))
    for call in (preprocessor.encode, preprocessor.offsets, preprocessor.string_to_array):
        with pytest.raises(DataError, match=r"lone surrogate U\+DC00 at character 1"):
            call("é\udc00")
    for batch in (preprocessor.encode_batch, preprocessor.fit):
        with pytest.raises(DataError, match=r"text 1: .*U\+DC00 at character 0"):
            batch(["é", "\udc00"])


def test_the_normal_form_is_saved_and_changes_the_digest(tmp_path: Path) -> None:
    plain = Preprocessor(alphabet="ab")
    digests = {Preprocessor(VocabularyConfig(normalisation=form), "ab").digest for form in FORMS}
    assert len(digests | {plain.digest}) == 5
    # Vocabularies saved before normalization existed keep their digest.
    assert plain.digest == digest({"format": FORMAT, "alphabet": "ab", "cls": False})
    path = tmp_path / "preprocessor.json"
    Preprocessor(VocabularyConfig(normalisation="NFKC"), "ab").save(path)
    assert Preprocessor.load(path).decode(Preprocessor.load(path).encode("ﬁ")) == "fi"
    path.write_text(path.read_text().replace('"NFKC"', '"NFC"'))
    with pytest.raises(IntegrityError, match="was altered"):
        Preprocessor.load(path)
    with pytest.raises(ConfigError, match="normalisation"):
        VocabularyConfig.parse({"normalisation": "nfc"}, "params.yaml: vocabulary")
