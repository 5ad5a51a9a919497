"""Reads static word vectors: text, word2vec in text and binary form, floret, and matrices with a tokenizer.

```
the 0.1 0.2 0.3                    text, as GloVe has it: a word and its numbers
2000 300                           word2vec: a first line with words and width, then text or binary rows
200 8 2 4 2 2166136261 < >         floret: a first line with the settings of its hashes
FOLDER with *.safetensors          one matrix, and a tokenizer (tokenizer.json, or another name with `tokenizer`), as
                                   in wordllama and model2vec
```

A file that ends in .gz is unpacked. The format is recognized by the content. gensim writes the second form with
`save_word2vec_format`; its own `save` writes a pickle, which is not read.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.pretrained.base import joined_digest, locate, single
from cclm_core.encoders.pretrained.floret import FloretHeader
from cclm_core.encoders.pretrained.lookups import HashLookup, Lookup, TokenLookup, WordLookup
from cclm_core.encoders.weights import read_header, read_weights
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import read_bytes

_REMEDY = "Use a file of word vectors; docs/parts.md has the formats."
_MAX_NUMBERS = 2**31  # in a table, 8 GiB in float32
_MAX_WIDTH = 8192
_MAX_WORD = 4096  # bytes
_MAX_TOKENIZER = 256 << 20

Table = npt.NDArray[np.float32]


class Vectors(NamedTuple):
    """A table (rows, D) float32, and how words are found in it."""

    lookup: Lookup
    table: Table


class Files(NamedTuple):
    """The files of a source: one file of vectors, or a matrix and its tokenizer."""

    vectors: Path
    tokenizer: Path | None = None

    def digest(self) -> str:
        """SHA-256 of the file; of the names and digests of both, if there are two."""
        if self.tokenizer is None:
            return file_digest(self.vectors)
        return joined_digest({path.name: file_digest(path) for path in (self.vectors, self.tokenizer)})


def find_files(source: str) -> Files:
    """The files of a source.

    Raises:
        ConfigError: the source does not exist.
        ArtifactError: a folder has no matrix or tokenizer, or several.
    """
    path = locate(source)
    if path.is_file():
        return Files(path)
    matrix = single(list(path.rglob("*.safetensors")), "a matrix *.safetensors", path)
    names = [name for name in path.rglob("*tokenizer*.json") if name.name != "tokenizer_config.json"]
    return Files(matrix, single(names, "a tokenizer *tokenizer*.json", path))


def read_vectors(files: Files, max_words: int | None = None) -> Vectors:
    """Reads word vectors; see the module.

    Args:
        files: the files of a source.
        max_words: number of words to keep, the first ones of the file; None for all. Only for one row per word.

    Raises:
        ArtifactError: a pickle, an unknown format, or a damaged file; the message gives the line or word.
    """
    path = files.vectors
    if files.tokenizer is not None:
        return _checked(_matrix(path, files.tokenizer), path)
    _refuse_pickle(path)
    with _reading(path) as stream:
        first = _line(stream)
        fields = first.rstrip(b"\r\n").split(b" ")
        if len(fields) == len(FloretHeader._fields) and all(field.isdigit() for field in fields[:6]):
            return _checked(_floret(stream, fields, path), path)
        if len(fields) == 2 and all(field.isdigit() for field in fields):
            num_words, width = map(int, fields)
            _check_size(num_words, width, path)
            kept = num_words if max_words is None else min(num_words, max_words)
            if _is_text(stream, width):
                rows = _text_rows(stream, path, width, kept, 2)
            else:
                rows = _binary_rows(stream, path, width, kept)
            return _checked(_table(rows, width, kept, path), path)
        width = len(fields) - 1
        stream.seek(0)
        return _checked(_table(_text_rows(stream, path, width, max_words, 1), width, None, path), path)


def _matrix(path: Path, tokenizer: Path) -> Vectors:
    header = read_header(path)
    if len(header) != 1 or len(next(iter(header.values())).shape) != 2:
        raise ArtifactError(f"{path} must contain one matrix, got {', '.join(sorted(header)[:5]) or 'nothing'}.")
    (name, entry), *_ = header.items()
    expected = {name: torch.empty(entry.shape, device="meta")}
    table = read_weights(path, expected, "the vectors")[name].float().numpy()
    return Vectors(TokenLookup(read_bytes(tokenizer, max_bytes=_MAX_TOKENIZER), tokenizer), table)


def _floret(stream: IO[bytes], fields: list[bytes], path: Path) -> Vectors:
    values: list[Any] = [*map(int, fields[:6]), *(field.decode("utf-8", errors="replace") for field in fields[6:])]
    header = FloretHeader(*values)
    if not 1 <= header.num_hashes <= 4 or header.min_size > header.max_size:
        raise ArtifactError(f"{path}: the first line is not that of floret: {header}. {_REMEDY}")
    _check_size(header.buckets, header.width, path)
    vectors = _table(_text_rows(stream, path, header.width, header.buckets, 2), header.width, header.buckets, path)
    return Vectors(HashLookup(header), vectors.table)


def _table(rows: Iterator[tuple[str, Any]], width: int, expected: int | None, path: Path) -> Vectors:
    words: list[str] = []
    chunks: list[Table] = []
    for word, numbers in rows:
        words.append(word)
        chunks.append(numbers)
    if not words or (expected is not None and len(words) != expected):
        raise ArtifactError(
            f"{path} must have {expected or 'at least 1'} vectors, got {len(words)}: it is not complete. Restore it."
        )
    return Vectors(WordLookup(words), np.stack(chunks).reshape(-1, width))


def _text_rows(
    stream: IO[bytes], path: Path, width: int, limit: int | None, number: int
) -> Iterator[tuple[str, Table]]:
    """Yields words and vectors of text lines; a word can contain spaces."""
    if not 1 <= width <= _MAX_WIDTH:
        raise ArtifactError(f"{path}: line 1 must have a word and 1 to {_MAX_WIDTH} numbers, got {width}. {_REMEDY}")
    count = 0
    while limit is None or count < limit:
        line = _line(stream)
        if not line:
            return
        try:
            text = line.decode("utf-8").rstrip("\r\n ")
            word, *numbers = text.rsplit(" ", width)
            vector = np.array(numbers, dtype=np.float32)
        except ValueError as error:
            raise ArtifactError(f"{path}: line {number}: {error!s:.120}. {_REMEDY}") from None
        if len(vector) != width:
            raise ArtifactError(f"{path}: line {number} must have {width} numbers, got {len(vector)}. {_REMEDY}")
        yield word, vector
        count, number = count + 1, number + 1


def _binary_rows(stream: IO[bytes], path: Path, width: int, limit: int) -> Iterator[tuple[str, Table]]:
    for number in range(limit):
        word = bytearray()
        while (letter := stream.read(1)) != b" ":
            if not letter or len(word) > _MAX_WORD:
                raise ArtifactError(f"{path}: word {number + 1} has no end. The file is not complete. Restore it.")
            if letter != b"\n" or word:
                word += letter
        content = stream.read(4 * width)
        if len(content) < 4 * width:
            raise ArtifactError(f"{path}: the vector of word {number + 1} is not complete. Restore the file.")
        try:
            yield word.decode("utf-8").replace("\n", ""), np.frombuffer(content, dtype="<f4").astype(np.float32)
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path}: word {number + 1} is not valid: {error!s:.120}. {_REMEDY}") from None


def _is_text(stream: IO[bytes], width: int) -> bool:
    """Whether the row at the current position is text; the position is unchanged."""
    start = stream.tell()
    line = _line(stream)
    stream.seek(start)
    try:
        _, *numbers = line.decode("utf-8").rstrip("\r\n ").rsplit(" ", width)
        return len(np.array(numbers, dtype=np.float32)) == width
    except ValueError:
        return False


def _line(stream: IO[bytes]) -> bytes:
    return stream.readline(_MAX_WORD + 64 * _MAX_WIDTH)


def _refuse_pickle(path: Path) -> None:
    """Refuses pickles, which run code when they are read, and other containers of arrays."""
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic[:1] == b"\x80" and magic[1:2] in b"\x02\x03\x04\x05":
        raise ArtifactError(
            f"{path} is a pickle, which can run code and is not read. Convert it where you trust it: "
            '`gensim.models.KeyedVectors.load(PATH).save_word2vec_format("vectors.bin", binary=True)`.'
        )
    if magic[:4] == b"PK\x03\x04" or magic == b"\x93NUMPY":
        raise ArtifactError(f"{path} is an archive or an array without words. {_REMEDY}")


def _check_size(rows: int, width: int, path: Path) -> None:
    if not rows or not 1 <= width <= _MAX_WIDTH or rows * width > _MAX_NUMBERS:
        raise ArtifactError(
            f"{path}: the first line must give at least 1 row of 1 to {_MAX_WIDTH} numbers, at most {_MAX_NUMBERS} in "
            f"all, got {rows} rows of {width}. {_REMEDY}"
        )


def _checked(vectors: Vectors, path: Path) -> Vectors:
    if vectors.lookup.num_rows() > len(vectors.table):
        raise ArtifactError(
            f"{path} has {len(vectors.table)} rows, but its tokenizer has {vectors.lookup.num_rows()} tokens. Use "
            "files that belong together."
        )
    infinite = np.flatnonzero(~np.isfinite(vectors.table).all(axis=1))
    if len(infinite):
        raise ArtifactError(f"{path}: vector {infinite[0] + 1} has NaN or infinity. Restore the file.")
    return vectors


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, unpacked if it ends in .gz."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            yield cast("IO[bytes]", stream)
    except (OSError, EOFError, zlib.error) as error:
        raise ArtifactError(f"{path} cannot be read: {error!s:.200}. Restore the file.") from None
