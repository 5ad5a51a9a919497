"""Recognizes from its first bytes what a file is, before it is read in the wrong way.

A pointer of Git LFS is three lines of valid text, and an archive or UTF-16 is many lines of garbage. Each is one error
here, which names the problem and the remedy. Files compressed with gzip, bzip2, xz or zstd are unpacked while they are
read.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from cclm_core.runtime.errors import DataError

_SAMPLE = 1 << 20

_POINTERS = {
    b"version https://git-lfs": ("a pointer of Git LFS", "Run `git lfs pull`"),
    b"/annex/objects/": ("a pointer of git-annex", "Run `git annex get`"),
}
_UNPACKED = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
_COMPRESSED = {
    b"PK\x03\x04": ("ZIP (such as .zip or .xlsx)", "unzip"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"),
}
# Whatever the libraries raise for a damaged file.
_RAISED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
_BINARY = {
    b"PAR1": "Parquet",
    b"ARROW1\0": "Arrow",
    b"%PDF-": "PDF",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old file of Microsoft Office",
    b"SQLite format 3\0": "SQLite",
    b"\x89HDF\r\n": "HDF5",
}
_MARKS = (  # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NUL_SHARE = 0.2  # of the bytes at even or at odd positions: ASCII characters in UTF-16 have a NUL each


def check_pointer(path: Path, name: str) -> None:
    """Checks that a file, of whatever format, is not a placeholder for it.

    Args:
        path: the file.
        name: its name in messages.

    Raises:
        DataError: it cannot be read, or is a pointer of Git LFS or git-annex.
    """
    for start, (kind, remedy) in _POINTERS.items():
        if read_sample(path, name, 64).startswith(start):
            raise DataError(f"{name} is {kind}, not the file itself. {remedy}.")


def check_text(path: Path, name: str, splits_at_returns: bool) -> None:
    """Checks that a file is text with one byte per ASCII character.

    Args:
        path: the file.
        name: its name in messages.
        splits_at_returns: whether the reader of this format takes a carriage return as the end of a line.

    Raises:
        DataError: it cannot be read, is an archive, binary, or UTF-16, or all its line ends are carriage returns.
    """
    if compression(path, name):
        with opened(path, name) as stream:
            sample = stream.read(_SAMPLE)
        if kind := _compression_of(sample):
            raise DataError(f"{name} is compressed twice; its content is {kind}. Unpack it once.")
    else:
        sample = read_sample(path, name, _SAMPLE)
    for start, (kind, command) in _COMPRESSED.items():
        if sample.startswith(start):
            raise DataError(f"{name} is compressed with {kind}. Unpack it, for example with `{command} {name}`.")
    for start, kind in _BINARY.items():
        if sample.startswith(start):
            raise DataError(f"{name} is {kind}, not text. Correct its suffix or ingest.source.format, or convert it.")
    encoding = next((encoding for mark, encoding in _MARKS if sample.startswith(mark)), None)
    if encoding is None and any(
        len(half) > 4 and half.count(0) >= _NUL_SHARE * len(half) for half in (sample[::2], sample[1::2])
    ):
        encoding = "UTF-16"
    if encoding:
        raise DataError(
            f"{name} is {encoding}, not UTF-8. Convert it: `iconv -f {encoding} -t UTF-8 {name} > {name}.utf8`."
        )
    if not splits_at_returns and b"\n" not in sample and b"\r" in sample.rstrip(b"\r"):
        raise DataError(
            f"the lines of {name} end in CR alone, as on old Macs. Convert it: `tr '\\r' '\\n' < {name} > {name}.lf`."
        )


def compression(path: Path, name: str) -> str | None:
    """Returns how a file is compressed: `gzip`, `bzip2`, `xz` or `zstd`; None if it is not.

    Raises:
        DataError: it cannot be read.
    """
    return _compression_of(read_sample(path, name, 16))


@contextmanager
def opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes; unpacks a compressed one while it is read.

    Args:
        path: the file.
        name: its name in messages.

    Raises:
        DataError: it cannot be read, or is compressed and damaged.
    """
    kind = compression(path, name)
    if kind is None:
        with path.open("rb") as stream:
            yield stream
        return
    try:
        with _unpacked(path, kind) as unpacked:
            yield unpacked
    except _RAISED as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{name} is compressed with {kind} and damaged: {reason}. Download it again.") from None


def _unpacked(path: Path, kind: str) -> Any:
    if kind == "zstd":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[kind](path, "rb")  # type: ignore[operator]


def _compression_of(sample: bytes) -> str | None:
    if sample.startswith(b"BZh") and sample[4:10] == b"1AY&SY":
        return "bzip2"
    return next((kind for start, kind in _UNPACKED.items() if sample.startswith(start)), None)


def is_file(path: Path) -> bool:
    """Returns whether a path leads to a file; False also if the system refuses it, for example as too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Returns whether a path leads to a folder; False also if the system refuses it."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_sample(path: Path, name: str, size: int) -> bytes:
    """Returns the first `size` bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}. Check its permissions.") from None


def checked_encoding(encoding: str) -> str:
    """Returns the encoding if lines can be split before they are decoded.

    Raises:
        ValueError: Python has no such encoding, or its ASCII characters are not single bytes (as in UTF-16).
    """
    ascii_text = "".join(map(chr, range(128)))
    try:
        single_bytes = ascii_text.encode(encoding) == ascii_text.encode("ascii")
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(
            f"unknown encoding {encoding!r}; use for example utf-8, cp1252, gb18030 or shift_jis"
        ) from None
    if encoding.lower().replace("_", "-") == "utf-8-sig":
        return "utf-8"
    if not single_bytes:
        raise ValueError(f"encoding {encoding!r} cannot be split into lines. Convert the file to UTF-8 with `iconv`")
    return encoding
