"""Small pretrained sources: a random BERT with a word-piece tokenizer, and a file of word vectors."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cclm_core.text.vocabulary import Preprocessor

PREPROCESSOR = Preprocessor(alphabet="abcdefghijklmnopqrstuvwxyz ABC.,'é")
WORDS = ("the", "cat", "sat", "don't", "é", ".", "york")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", *"abcdefghijklmnopqrstuvwxyz.,'é[]")


def write_checkpoint(folder: Path, model_type: str = "bert") -> Path:
    """Writes a checkpoint with random weights, 32 features and 40 positions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

    pieces = [*PIECES, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyzé")]
    tokenizer = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_truncation(16)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    settings = {**sizes, "vocab_size": len(pieces), "max_position_embeddings": 40, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BertModel(BertConfig(**settings)) if model_type == "bert" else RobertaModel(RobertaConfig(**settings))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@cache
def word_table() -> np.ndarray:
    """The vectors (7, 4) of WORDS."""
    return np.random.default_rng(1).normal(size=(len(WORDS), 4)).astype(np.float32)


def write_vectors(path: Path, form: str = "text") -> Path:
    """Writes WORDS and their vectors as `text`, `word2vec` or `binary`."""
    rows = zip(WORDS, word_table(), strict=True)
    if form == "binary":
        body = b"".join(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n" for word, row in rows)
        path.write_bytes(b"7 4\n" + body)
    else:
        lines = [f"{word} {' '.join(f'{value:.9g}' for value in row.tolist())}" for word, row in rows]
        path.write_text("\n".join([*(["7 4"] if form == "word2vec" else []), *lines]) + "\n", encoding="utf-8")
    return path


def ids_of(*texts: str) -> Tensor:
    """The padded ids (B, L) of texts."""
    return torch.from_numpy(PREPROCESSOR.encode_batch(list(texts)).ids)
