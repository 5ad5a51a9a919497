"""Finds the files that a configuration names: files, folders and patterns; recognizes their formats by suffix."""

import glob
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Literal

from cclm_core.ingest.sources.content import check_text, is_file, is_folder
from cclm_core.runtime.errors import DataError

Format = Literal["text", "jsonl", "csv", "parquet", "conll"]

SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
}

_PACKED = (".gz", ".bz2", ".xz", ".zst")


def suffix_of(path: PurePath) -> str:
    """Returns the suffix in lower case, without that of a compression.

    >>> suffix_of(PurePath("train.CSV.gz"))
    '.csv'
    """
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in _PACKED else suffix


def format_of(path: Path, configured: Format | None) -> Format:
    """Returns the configured format, or the one of the suffix.

    Raises:
        DataError: the suffix is unknown.
    """
    file_format = configured or SUFFIXES.get(suffix_of(path))
    if file_format is None:
        check_text(path, path.name, splits_at_returns=True)  # an archive gets a better message
        suffixes = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{path.name}: unknown format. Use a suffix of {suffixes}, or set ingest.source.format.")
    return file_format


def find_files(configured: str, file_format: Format | None) -> Iterator[str]:
    """Yields the paths of the files that one entry of `paths` names, sorted.

    A folder means all files in it and below it with a known suffix, or if the format is configured, all files
    except hidden ones and READMEs. In a pattern, `*` and `?` match within a name and `**` any folders.

    Raises:
        DataError: nothing is found.
    """
    path = Path(configured)
    if is_file(path):
        yield configured
    elif is_folder(path):
        names = sorted(str(file) for file in path.rglob("*") if is_file(file) and _is_data(file, path, file_format))
        if not names:
            if is_file(path / "dataset_dict.json") or is_file(path / "state.json"):
                raise DataError(
                    f"ingest.source.paths: {configured} was written by `save_to_disk` of `datasets`. Set kind: dataset "
                    "and path, or write each split with `to_parquet` into a folder, and name that folder."
                )
            kind = file_format or f"suffix of {', '.join(sorted(SUFFIXES))}"
            raise DataError(f"ingest.source.paths: folder {configured} has no file to read ({kind}). Check the path.")
        yield from names
    elif glob.has_magic(configured):
        matches = glob.glob(configured, recursive=True)  # noqa: PTH207  Path.glob refuses absolute patterns
        names = sorted(name for name in matches if is_file(Path(name)))
        if not names:
            raise DataError(f"ingest.source.paths: no file matches {configured}. Check the pattern.")
        yield from names
    else:
        raise DataError(f"ingest.source.paths: file {configured} not found. Check the path.")


def _is_data(file: Path, folder: Path, file_format: Format | None) -> bool:
    parts = file.relative_to(folder).parts
    if any(part.startswith(".") for part in parts) or file.stem.upper() == "README":
        return False
    return file_format is not None or suffix_of(file) in SUFFIXES
