"""The tokenizer: the ids of `Preprocessor`, without loss, and everything that users call a tokenizer with."""

import pickle
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from cclm_core.huggingface import CclmTokenizer, tokenizer_from
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.vocabulary import Preprocessor
from tests.huggingface.small import TEXTS, vocabulary

PREPROCESSOR = vocabulary()
TOKENIZER = tokenizer_from(PREPROCESSOR)
VARIANTS = [
    (preprocessor, tokenizer_from(preprocessor))
    for preprocessor in (
        PREPROCESSOR,
        Preprocessor({"cls": True}, "abc é"),
        Preprocessor({"normalisation": "NFC"}, "abc é"),
        Preprocessor(),
    )
]
ANY = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("abé🙂 \n\t[]<0x41>\u0301'\u2019\ufffd"))


@given(ANY, st.sampled_from(range(len(VARIANTS))))
def test_ids_and_offsets_are_those_of_the_vocabulary(text: str, variant: int) -> None:
    preprocessor, tokenizer = VARIANTS[variant]
    encoding = tokenizer(text, return_offsets_mapping=True)
    assert encoding.input_ids == preprocessor.encode(text).tolist()
    first = int(preprocessor.config.cls)
    starts = [start for start, _ in encoding["offset_mapping"]]
    assert starts[first:] == preprocessor.offsets(text)[first:].tolist()
    assert encoding.token_type_ids == [0] * len(starts) and encoding.attention_mask == [1] * len(starts)


@given(ANY)
def test_decoding_restores_every_text(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text
    assert TOKENIZER.decode(TOKENIZER(text, "x").input_ids, skip_special_tokens=True) == text + "x"


def test_the_keys_have_the_order_that_models_expect() -> None:
    assert list(TOKENIZER("To be")) == ["input_ids", "token_type_ids", "attention_mask"]


def test_pairs_have_segment_ids_also_if_a_text_is_empty() -> None:
    pair = TOKENIZER("To", "be")
    assert pair.tokens() == ["T", "o", "[SEP]", "b", "e"] and pair.token_type_ids == [0, 0, 0, 1, 1]
    assert TOKENIZER("To", "").tokens() == ["T", "o", "[SEP]"]
    assert TOKENIZER("", "be").token_type_ids == [0, 1, 1]
    assert TOKENIZER(["To"], [""]).input_ids == [TOKENIZER("To", "").input_ids]
    assert TOKENIZER("To", "", return_tensors="pt")["input_ids"].shape == (1, 3)


def test_the_frames() -> None:
    bert = tokenizer_from(PREPROCESSOR, "bert")
    assert bert("To").tokens() == ["[CLS]", "T", "o", "[SEP]"]
    pair = bert("To", "be")
    assert pair.tokens() == ["[CLS]", "T", "o", "[SEP]", "b", "e", "[SEP]"]
    assert pair.token_type_ids == [0, 0, 0, 0, 1, 1, 1]
    generation = tokenizer_from(PREPROCESSOR, "generation")
    assert generation("To").tokens() == ["[SEP]", "T", "o"] and generation.padding_side == "left"
    assert generation.bos_token_id == generation.eos_token_id == 3
    with pytest.raises(ConfigError, match="`frame` must be one of text, bert, generation, got 'gpt'"):
        tokenizer_from(PREPROCESSOR, "gpt")  # type: ignore[arg-type]


def test_padding_truncation_and_tensors() -> None:
    batch = TOKENIZER(["To", "be, or"], padding=True, return_tensors="pt")
    assert batch["input_ids"].dtype == torch.int64 and batch["input_ids"].shape == (2, 6)
    assert batch["attention_mask"].sum(1).tolist() == [2, 6]
    assert TOKENIZER(["To"], padding="max_length", max_length=5, return_tensors="np")["input_ids"].shape == (1, 5)
    assert isinstance(TOKENIZER(["To"], return_tensors="np")["input_ids"], np.ndarray)
    assert TOKENIZER(["To b"], padding=True, pad_to_multiple_of=8).attention_mask[0] == [1] * 4 + [0] * 4
    assert TOKENIZER("To be", truncation=True, max_length=2).tokens() == ["T", "o"]
    kept = TOKENIZER("To be", "or not", truncation="only_second", max_length=8)
    assert kept.tokens() == [*"To be", "[SEP]", "o", "r"]
    windows = TOKENIZER("To be", truncation=True, max_length=3, stride=1, return_overflowing_tokens=True)
    assert windows.input_ids == [PREPROCESSOR.encode(part).tolist() for part in ("To ", " be")]
    with pytest.raises(ValueError, match="Unable to create tensor"):
        TOKENIZER(["To", "be, or"], return_tensors="pt")
    assert TOKENIZER([]) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}


def test_the_limit_of_the_vocabulary_limits_truncated_texts() -> None:
    tokenizer = tokenizer_from(Preprocessor({"max_length": 4}, "abc"))
    assert tokenizer("abcabc", truncation=True).tokens() == list("abca")


def test_words_are_words() -> None:
    assert TOKENIZER("Don't stop, café!").word_ids() == [0] * 5 + [1] + [2] * 4 + [3, 4] + [5] * 5 + [6]
    assert TOKENIZER("Don't stop").word_to_chars(0) == (0, 5)


def test_names_of_special_tokens_in_a_text_are_text() -> None:
    assert TOKENIZER("[MASK]").input_ids == PREPROCESSOR.encode("[MASK]").tolist()
    assert TOKENIZER("[MASK]", split_special_tokens=False).input_ids == [1]
    assert TOKENIZER("[MASK]").input_ids == PREPROCESSOR.encode("[MASK]").tolist(), (
        "the setting of one call stays there"
    )
    trusting = tokenizer_from(PREPROCESSOR, split_special_tokens=False)
    assert trusting("o[MASK]").tokens() == ["o", "[MASK]"]


def test_the_vocabulary_has_one_token_per_id_and_no_unknown_token() -> None:
    assert len(TOKENIZER) == TOKENIZER.vocab_size == PREPROCESSOR.num_ids and TOKENIZER.unk_token is None
    assert sorted(TOKENIZER.get_vocab().values()) == list(range(PREPROCESSOR.num_ids))
    assert TOKENIZER.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["[PAD]", "[MASK]", "[CLS]", "[SEP]", "<0x00>"]
    ids = [TOKENIZER.pad_token_id, TOKENIZER.mask_token_id, TOKENIZER.cls_token_id, TOKENIZER.sep_token_id]
    assert ids == [0, 1, 2, 3]


def test_lone_surrogates_are_refused_with_their_position() -> None:
    for arguments in (("a\ud800",), (["a", "a\ud800"],), ("a", "a\ud800")):
        with pytest.raises(DataError, match=r"U\+D800 at character 1"):
            TOKENIZER(*arguments)


@pytest.mark.parametrize("frame", ["text", "bert", "generation"])
def test_saved_and_pickled_tokenizers_are_equal(frame: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_from(PREPROCESSOR, frame)  # type: ignore[arg-type]
    tokenizer.save_pretrained(tmp_path)
    loaded = CclmTokenizer.from_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)  # without config.json it does not know our class
    for other in (loaded, plain, pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        for arguments in ((TEXTS[2],), (TEXTS, TEXTS[::-1]), ("[MASK] 🙂", "")):
            assert dict(other(*arguments)) == dict(tokenizer(*arguments)) or (other is plain and "" in arguments)
        assert other.split_special_tokens and other.padding_side == tokenizer.padding_side
