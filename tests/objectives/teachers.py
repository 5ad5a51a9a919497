"""Small teachers on disk: static vectors of words, and a transformers checkpoint with random weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from cclm_core.encoders.weights import save_weights
from cclm_core.runtime.artifacts import file_digest
from tests.corpora import NAMES, THINGS, VERBS

WORDS = ["[UNK]", ".", *sorted({word for text in (*NAMES, *VERBS, *THINGS) for word in text.split()})]


def digest(folder: Path, *names: str) -> str:
    """The digest that a teacher with these files must have."""
    lines = "".join(f"{name} {file_digest(folder / name)}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def save_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of whole words."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def vectors(folder: Path, width: int = 12) -> dict[str, Any]:
    """Writes random vectors of the words of the test corpus, and returns the configuration of the teacher."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    matrix = torch.randn(len(WORDS), width, generator=torch.Generator().manual_seed(3))
    matrix[0] = 0  # unknown words have no vector
    save_weights({"embedding.weight": matrix}, folder / "vectors.safetensors")
    return {
        "kind": "vectors",
        "source": str(folder),
        "sha256": digest(folder, "vectors.safetensors", "tokenizer.json"),
        "width": width,
    }


def word_vectors(path: Path, width: int = 12, scale: float = 1.0) -> dict[str, Any]:
    """Writes a text file with random vectors of the words, and returns the settings of the objective `vectors`."""
    matrix = scale * torch.randn(len(WORDS), width, generator=torch.Generator().manual_seed(3))
    rows = zip(WORDS[1:], matrix[1:].tolist(), strict=True)
    lines = [f"{word} {' '.join(map(str, numbers))}" for word, numbers in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"source": str(path), "sha256": file_digest(path), "width": width}


def checkpoint(folder: Path) -> dict[str, Any]:
    """Writes a small BERT with random weights, and returns the configuration of the teacher."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    sha256 = digest(folder, "config.json", "tokenizer.json", "model.safetensors")
    return {"kind": "huggingface", "source": str(folder), "sha256": sha256, "width": 16}
