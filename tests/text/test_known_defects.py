"""Known defects of the original CCLM and of CANINE in text handling do not occur here."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.runtime.errors import DataError
from cclm_core.text.vocabulary import CLS, NUM_SPECIAL, PAD, Preprocessor, TargetsConfig, VocabularyConfig

LENGTHS = [0, 1, 2, 3, 5, 4095, 4096, 32767, 32768, 32769, 70001]


@pytest.fixture
def preprocessor() -> Preprocessor:
    return Preprocessor(VocabularyConfig(downsample_factor=4)).fit(["abc"])


@pytest.mark.parametrize("text", ["", "a", "é", "🚀", "\x00"])
def test_empty_and_one_character_strings_work_in_every_call(preprocessor: Preprocessor, text: str) -> None:
    """CANINE fails on "" and "a"."""
    for prep in (preprocessor, Preprocessor(VocabularyConfig(cls=True)).fit([text]), Preprocessor()):
        assert prep.decode(prep.encode(text)) == text
        assert prep.decode(prep.string_to_array(text)) == text
        assert prep.decode_batch(prep.encode_batch([text]).ids) == [text]
        assert len(prep.offsets(text)) == len(prep.encode(text))
        assert prep.encode_ragged([text]).lengths.tolist() == [len(prep.encode(text))]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("last", ["a", "é"])
def test_no_tail_is_dropped_at_any_length(preprocessor: Preprocessor, length: int, last: str) -> None:
    """CANINE's downsampling drops the last characters if the length is not a multiple of its stride."""
    text = ("abc" * length)[: max(0, length - 1)] + last * bool(length)
    batch = preprocessor.encode_batch([text, "b"])
    assert preprocessor.decode_batch(batch.ids) == [text, "b"]
    assert batch.ids.shape[1] % 4 == 0
    assert preprocessor.offsets(text)[-1:].tolist() == [length - 1] * bool(length)


def test_unknown_characters_do_not_become_padding(preprocessor: Preprocessor) -> None:
    """In the original, `string_to_array` maps unknown characters to 0, its padding id."""
    for text in ("xyz", "漢字", "🚀\U0010ffff", "\x00", "a?c"):
        ids = preprocessor.encode(text)
        assert (ids >= NUM_SPECIAL).all() and PAD not in ids
        assert preprocessor.decode(ids) == text


def test_padding_does_not_change_the_ids_of_a_text(preprocessor: Preprocessor) -> None:
    alone = preprocessor.encode_batch(["abé"]).ids[0, :4]
    in_longer_batch = preprocessor.encode_batch(["abé", "abc" * 50]).ids[0, :4]
    assert alone.tolist() == in_longer_batch.tolist()


def test_ids_are_integers(preprocessor: Preprocessor) -> None:
    """The original returns float64. Here, floats are refused as ids."""
    assert preprocessor.encode("ab").dtype == np.uint16
    assert preprocessor.string_to_array("ab").dtype == np.int64
    assert preprocessor.encode_batch([]).ids.dtype == preprocessor.encode_batch(["a"]).ids.dtype == np.int64
    assert preprocessor.decode([]) == ""
    with pytest.raises(DataError, match="integers, got float64"):
        preprocessor.decode(np.array([260.0]))


def test_a_text_above_the_maximum_length_is_an_error_unless_truncated() -> None:
    """The original returns rows that are longer than its own maximum."""
    preprocessor = Preprocessor(VocabularyConfig(max_length=4), "a")
    with pytest.raises(DataError, match="at most 4 ids, got 5"):
        preprocessor.string_to_array("aaaaa")
    assert len(preprocessor.string_to_array("aaaaa", truncate=True)) == 4


def test_saving_keeps_every_setting(tmp_path: Path) -> None:
    """The original's `save` drops the size limit, CLS, the downsample factor and the word tokenizer."""
    config = VocabularyConfig(
        min_count=2,
        max_characters=77,
        cls=True,
        normalisation="NFC",
        max_length=64,
        downsample_factor=8,
        words=TargetsConfig(kind="bpe", max_targets=300, min_count=3),
    )
    assert all(getattr(config, name) != field.default for name, field in VocabularyConfig.model_fields.items())
    saved = Preprocessor(config).fit(["abba", "é" * 3])
    saved.save(tmp_path / "preprocessor.json")
    loaded = Preprocessor.load(tmp_path / "preprocessor.json")
    assert loaded.config == config
    assert (loaded.alphabet, loaded.digest, loaded.num_ids) == (saved.alphabet, saved.digest, saved.num_ids)
    assert loaded.encode("abé").tolist()[0] == CLS
