"""Rows of a batch: rounding to the downsample factor, the maximum length, and truncation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.vocabulary import CLS, PAD, Preprocessor, VocabularyConfig

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("abé漢🚀e\u0301ﬁ"), max_size=30)


def preprocessor_with(alphabet: str = "ab", **settings: Any) -> Preprocessor:
    return Preprocessor(VocabularyConfig(**settings), alphabet)


@given(st.lists(TEXTS, max_size=6), st.integers(1, 9), st.booleans())
def test_the_length_of_a_batch_is_the_next_multiple_of_the_factor(texts: list[str], factor: int, cls: bool) -> None:
    preprocessor = preprocessor_with(downsample_factor=factor, cls=cls)
    batch = preprocessor.encode_batch(texts)
    longest = max((len(preprocessor.encode(text)) for text in texts), default=0)
    assert batch.ids.shape[1] % factor == 0
    assert longest <= batch.ids.shape[1] < longest + factor
    assert preprocessor.decode_batch(batch.ids) == texts
    assert batch.cut.tolist() == [0] * len(texts)


@given(
    st.lists(TEXTS, min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([None, "NFC", "NFKD"]),
)
def test_truncation_reports_the_cut_and_never_splits_a_character(
    texts: list[str], factor: int, multiple: int, cls: bool, form: Any
) -> None:
    limit = factor * multiple
    preprocessor = preprocessor_with(downsample_factor=factor, max_length=limit, cls=cls, normalisation=form)
    batch = preprocessor.encode_batch(texts, truncate=True)
    assert batch.ids.shape[1] <= limit
    for text, row, length, cut in zip(texts, *batch, strict=True):
        ids, offsets = preprocessor.encode(text), preprocessor.offsets(text)
        assert row[:length].tolist() == ids[:length].tolist()
        assert (row[length:] == PAD).all()
        num_kept = len(text) - cut
        assert num_kept == preprocessor.num_fitting(text, limit)
        if len(ids) <= limit:
            assert cut == 0 and length == len(ids)
        else:
            assert cut > 0
            assert (offsets[:length] < num_kept).all() and (offsets[length:] >= num_kept).all()
            next_width = int((offsets == offsets[length]).sum())
            assert length + next_width > limit  # the next character does not fit
        if form is None:
            assert preprocessor.decode(row) == text[:num_kept]
        assert preprocessor.string_to_array(text, limit, truncate=True).tolist()[:length] == row[:length].tolist()


def test_a_text_that_is_too_long_is_an_error_unless_truncated() -> None:
    preprocessor = preprocessor_with(max_length=4, downsample_factor=2)
    with pytest.raises(DataError, match=r"text 1 must have at most 4 ids, got 5\. Shorten it, or set `truncate=True`"):
        preprocessor.encode_batch(["a", "aabba"])
    with pytest.raises(DataError, match="text must have at most 4 ids, got 5"):
        preprocessor.string_to_array("aabba")
    with pytest.raises(DataError, match="text must have at most 2 ids, got 3"):
        preprocessor_with().string_to_array("aab", 2)
    with pytest.raises(DataError, match="needs a maximum length"):
        preprocessor_with().encode_batch(["a"], truncate=True)
    assert len(preprocessor.encode("aabba")) == 5  # only rows of a batch have a limit
    assert preprocessor.encode_batch(["aabb"]).cut.tolist() == [0]


def test_a_row_ends_before_a_character_that_does_not_fit() -> None:
    preprocessor = preprocessor_with(max_length=4)
    batch = preprocessor.encode_batch(["ab漢b", "abab", "漢漢", "🚀"], truncate=True)
    assert preprocessor.decode_batch(batch.ids) == ["ab", "abab", "漢", "🚀"]
    assert batch.lengths.tolist() == [2, 4, 3, 4]
    assert batch.cut.tolist() == [2, 0, 1, 0]
    assert batch.ids.shape == (4, 4)
    small = preprocessor_with(max_length=2)
    empty = small.encode_batch(["漢", "🚀a"], truncate=True)
    assert empty.ids.shape == (2, 0) and empty.cut.tolist() == [1, 2]


def test_string_to_array_pads_to_the_given_length() -> None:
    preprocessor = preprocessor_with(downsample_factor=4, cls=True)
    assert preprocessor.string_to_array("ab").tolist() == [CLS, 260, 261, PAD]
    assert preprocessor.string_to_array("ab", 3).tolist() == [CLS, 260, 261]
    assert preprocessor.string_to_array("ab", 7).tolist() == [CLS, 260, 261, PAD, PAD, PAD, PAD]
    assert preprocessor.string_to_array("ab", 0, truncate=True).tolist() == []
    assert preprocessor.num_fitting("ab", 1) == 0
    assert preprocessor.num_fitting("ab", 2) == 1
    assert preprocessor.num_fitting("ab", 99) == 2
    assert preprocessor.string_to_array("").tolist() == [CLS, PAD, PAD, PAD]


def test_empty_batches_and_batches_of_empty_texts() -> None:
    preprocessor = preprocessor_with(downsample_factor=4)
    assert preprocessor.encode_batch([]).ids.shape == (0, 0)
    assert preprocessor.encode_batch(["", ""]).ids.shape == (2, 0)
    assert preprocessor.decode_batch(np.full((2, 4), PAD)) == ["", ""]
    assert preprocessor.decode_batch(np.zeros((0, 4), dtype=np.int64)) == []
    assert preprocessor.encode_ragged([]).ids.shape == (0,)
    with_cls = preprocessor_with(downsample_factor=4, cls=True).encode_batch(["", "a"])
    assert with_cls.ids.tolist() == [[CLS, PAD, PAD, PAD], [CLS, 260, PAD, PAD]]


def test_a_maximum_length_must_be_a_multiple_of_the_downsample_factor() -> None:
    with pytest.raises(ConfigError, match="max_length must be a multiple of downsample_factor, got 10 and 4"):
        VocabularyConfig.parse({"max_length": 10, "downsample_factor": 4}, "params.yaml: vocabulary")
    with pytest.raises(ConfigError, match="downsample_factor"):
        VocabularyConfig.parse({"downsample_factor": 0}, "params.yaml: vocabulary")


def test_the_names_of_the_original_cclm_work() -> None:
    prep = Preprocessor(max_example_len=16)
    prep.fit(["cclm is neat"])
    assert prep.max_example_len == prep.config.max_length == 16
    assert prep.n_chars == prep.num_ids == 260 + len(set("cclm is neat"))
    row = prep.string_to_array("cclm is neat", prep.max_example_len)
    assert row.shape == (16,) and prep.decode(row) == "cclm is neat"
    with pytest.raises(DataError, match="text must have at most 16 ids, got 24"):
        prep.string_to_array(2 * "cclm is neat", prep.max_example_len)


def test_without_a_maximum_length_a_row_is_as_long_as_its_text() -> None:
    prep = Preprocessor().fit(["cclm is neat"])
    assert prep.max_example_len is None
    assert prep.string_to_array("cclm", prep.max_example_len).shape == (4,)


def test_a_maximum_length_that_contradicts_the_configuration_is_refused() -> None:
    config = VocabularyConfig(max_length=8, downsample_factor=4)
    assert Preprocessor(config, max_example_len=8).config == config
    with pytest.raises(ConfigError, match="max_example_len 16 contradicts max_length 8"):
        Preprocessor(config, max_example_len=16)
    with pytest.raises(ConfigError, match="max_length must be a multiple of downsample_factor"):
        Preprocessor(VocabularyConfig(downsample_factor=4), max_example_len=7)
    with pytest.raises(ConfigError, match=r"max_length.*greater than or equal to 1"):
        Preprocessor(max_example_len=0)
