"""What is reported of the original CCLM and of CANINE on the side of the text does not happen here."""

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
    for one in (preprocessor, Preprocessor(VocabularyConfig(cls=True)).fit([text]), Preprocessor()):
        assert one.decode(one.encode(text)) == text
        assert one.decode(one.string_to_array(text)) == text
        assert one.decode_batch(one.encode_batch([text]).ids) == [text]
        assert len(one.offsets(text)) == len(one.encode(text))
        assert one.encode_ragged([text]).lengths.tolist() == [len(one.encode(text))]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("last", ["a", "é"])
def test_no_tail_is_dropped_at_any_length(preprocessor: Preprocessor, length: int, last: str) -> None:
    """CANINE's downsampling loses the last characters of a length that is no multiple of its stride."""
    text = ("abc" * length)[: max(0, length - 1)] + last * bool(length)
    batch = preprocessor.encode_batch([text, "b"])
    assert preprocessor.decode_batch(batch.ids) == [text, "b"]
    assert batch.ids.shape[1] % 4 == 0
    assert preprocessor.offsets(text)[-1:].tolist() == [length - 1] * bool(length)


def test_unknown_characters_do_not_become_padding(preprocessor: Preprocessor) -> None:
    """The original's `string_to_array` gives 0, its padding, for a character that is not in the vocabulary."""
    for text in ("xyz", "漢字", "🚀\U0010ffff", "\x00", "a?c"):
        ids = preprocessor.encode(text)
        assert (ids >= NUM_SPECIAL).all() and PAD not in ids
        assert preprocessor.decode(ids) == text


def test_padding_does_not_change_the_ids_of_a_text(preprocessor: Preprocessor) -> None:
    alone = preprocessor.encode_batch(["abé"]).ids[0, :4]
    beside = preprocessor.encode_batch(["abé", "abc" * 50]).ids[0, :4]
    assert alone.tolist() == beside.tolist()


def test_ids_are_integers(preprocessor: Preprocessor) -> None:
    """The original gives float64; and floats are not taken for ids."""
    assert preprocessor.encode("ab").dtype == np.uint16
    assert preprocessor.string_to_array("ab").dtype == np.int64
    assert preprocessor.encode_batch([]).ids.dtype == preprocessor.encode_batch(["a"]).ids.dtype == np.int64
    assert preprocessor.decode([]) == ""
    with pytest.raises(DataError, match="integers, got float64"):
        preprocessor.decode(np.array([260.0]))


def test_a_text_that_is_longer_than_the_maximum_is_not_cut_or_passed_on_unsaid() -> None:
    """The original infers a length above its own maximum."""
    preprocessor = Preprocessor(VocabularyConfig(max_length=4), "a")
    with pytest.raises(DataError, match="at most 4 ids, got 5"):
        preprocessor.string_to_array("aaaaa")
    assert len(preprocessor.string_to_array("aaaaa", truncate=True)) == 4


def test_saving_loses_no_setting(tmp_path: Path) -> None:
    """The original's `save` forgets the vocabulary's limit, CLS, the downsample factor and the word tokenizer."""
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
