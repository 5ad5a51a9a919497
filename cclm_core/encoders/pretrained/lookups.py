"""How the vector of a word is found in a table: by the word, by hashes of its n-grams, or by its tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from cclm_core.encoders.pretrained.floret import FloretHeader
from cclm_core.runtime.artifacts import write_json, write_text
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import read_bytes, read_json

_CARD, _WORDS, _TOKENIZER = "lookup.json", "words.txt", "tokenizer.json"
_MAX_BYTES = 1 << 30
_CACHED = 1 << 17  # words


class Lookup(ABC):
    """Finds the rows of a table whose mean is the vector of a word."""

    kind: str

    def __init__(self) -> None:
        self._cached: dict[str, tuple[int, ...]] = {}

    def rows(self, word: str) -> tuple[int, ...]:
        """The rows; none if the word has no vector."""
        rows = self._cached.get(word)
        if rows is None:
            if len(self._cached) >= _CACHED:
                self._cached.clear()
            rows = self._cached[word] = self.find(word)
        return rows

    def vectors(self, words: Sequence[str], table: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors (N, D) of words, zeros for a word without one, and whether each has one, (N,) bool.

        Args:
            words: N words.
            table: (rows, D), on any device.
        """
        found = [self.rows(word) for word in words]
        sizes = torch.tensor([len(rows) for rows in found], dtype=torch.int64, device=table.device)
        flat = torch.tensor([row for rows in found for row in rows], dtype=torch.int64, device=table.device)
        if not len(flat):
            return table.new_zeros(len(words), table.shape[1]), sizes > 0
        vectors = nn.functional.embedding_bag(flat, table, sizes.cumsum(0) - sizes, mode="mean")
        return vectors, sizes > 0

    @abstractmethod
    def find(self, word: str) -> tuple[int, ...]:
        """The rows of a word, computed."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Writes the files that `read_lookup` reads."""

    @abstractmethod
    def num_rows(self) -> int:
        """The number of rows that the table must have at least."""


class WordLookup(Lookup):
    """One row per word. A word that is not in the list is tried in lower case."""

    kind = "words"

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = list(words)
        self._rows: dict[str, int] = {}
        for row, word in enumerate(self.words):
            self._rows.setdefault(word, row)

    def find(self, word: str) -> tuple[int, ...]:
        """See `Lookup.find`."""
        row = self._rows.get(word, self._rows.get(word.lower()))
        return () if row is None else (row,)

    def write(self, folder: Path) -> None:
        """See `Lookup.write`."""
        write_text(folder / _WORDS, "\n".join(self.words))
        write_json(folder / _CARD, {"kind": self.kind})

    def num_rows(self) -> int:
        """See `Lookup.num_rows`."""
        return len(self.words)


class HashLookup(Lookup):
    """floret: rows by hashes of the word and its n-grams, so every word has a vector."""

    kind = "floret"

    def __init__(self, header: FloretHeader) -> None:
        super().__init__()
        self.header = header

    def find(self, word: str) -> tuple[int, ...]:
        """See `Lookup.find`."""
        return self.header.rows(word)

    def write(self, folder: Path) -> None:
        """See `Lookup.write`."""
        write_json(folder / _CARD, {"kind": self.kind, "header": list(self.header)})

    def num_rows(self) -> int:
        """See `Lookup.num_rows`."""
        return self.header.buckets


class TokenLookup(Lookup):
    """One row per token of a tokenizer, as in wordllama and model2vec; a word has the mean of its tokens.

    The unknown token has no vector. Each word is tokenized as if it began a text.
    """

    kind = "tokens"

    def __init__(self, content: bytes, source: object) -> None:
        super().__init__()
        self._content = content
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # noqa: BLE001  the library raises nothing more specific
            raise ArtifactError(f"{source} is not a tokenizer: {error!s:.200}. Restore the file.") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)

    def find(self, word: str) -> tuple[int, ...]:
        """See `Lookup.find`."""
        ids = self._tokenizer.encode(word, add_special_tokens=False).ids
        return tuple(token for token in ids if token != self._unknown)

    def write(self, folder: Path) -> None:
        """See `Lookup.write`."""
        (folder / _TOKENIZER).write_bytes(self._content)
        write_json(folder / _CARD, {"kind": self.kind})

    def num_rows(self) -> int:
        """See `Lookup.num_rows`."""
        return self._tokenizer.get_vocab_size()


def read_lookup(folder: Path) -> Lookup:
    """Reads what `Lookup.write` wrote to a folder.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    path = folder / _CARD
    card: dict[str, Any] = read_json(path)
    match card.get("kind"):
        case "words":
            content = read_bytes(folder / _WORDS, max_bytes=_MAX_BYTES)
            return WordLookup(content.decode("utf-8", errors="replace").split("\n") if content else [])
        case "floret" if isinstance(card.get("header"), list) and len(card["header"]) == len(FloretHeader._fields):
            return HashLookup(FloretHeader(*card["header"]))
        case "tokens":
            return TokenLookup(read_bytes(folder / _TOKENIZER, max_bytes=_MAX_BYTES), folder / _TOKENIZER)
    raise ArtifactError(f"{path} is damaged: unknown kind {card.get('kind')!r:.80}. Save the model again.")
