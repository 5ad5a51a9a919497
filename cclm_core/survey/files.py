"""The files that a user named: which split each one belongs to, how it is written, and their place in the project."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cclm_core.corpus.records import SPLITS
from cclm_core.ingest.sources.content import is_folder
from cclm_core.ingest.sources.paths import find_files
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import DataError
from cclm_core.survey.layout import Layout, recognize

INPUT = "input"
"""The folder of the project that DVC watches."""

_SPLIT_OF_NAME = {
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


@dataclass(frozen=True)
class DataFile:
    """A file with data.

    Attributes:
        path: where it is.
        name: where it belongs in the folder `input`, such as `tickets.csv` or `chat/2024.csv`.
        split: `train`, `validation` or `test`.
        layout: how it is written.
    """

    path: Path
    name: str
    split: str
    layout: Layout

    @property
    def target(self) -> str:
        """Its path in the project."""
        return f"{INPUT}/{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether it is plain text, without labels."""
        return self.layout.format_of(self.path) == "text"

    @property
    def is_table(self) -> bool:
        """Whether it has columns with names."""
        return self.layout.format_of(self.path) in ("csv", "jsonl", "parquet")


def find_data(
    paths: Sequence[str],
    held_out: dict[str, Sequence[str]],
    encoding: str | None = None,
    has_header: bool | None = None,
    as_lines: bool = False,
) -> tuple[list[DataFile], list[str]]:
    """Finds the files that a user named, and recognizes how each is written.

    Args:
        paths: files, folders and patterns.
        held_out: `validation` and `test` -> files, folders and patterns.
        encoding, has_header, as_lines: see `recognize`.

    Returns:
        The files, and sentences on what was assumed.

    Raises:
        DataError: a path does not exist, two files would have the same place, or a file cannot be read.
    """
    files: dict[str, DataFile] = {}
    assumptions: list[str] = []
    named: dict[str, Sequence[str]] = {"train": paths, **held_out}
    for split in SPLITS:
        for configured in named.get(split, ()):
            for path, name in _expanded(configured):
                if name in files and files[name].path.resolve() != path.resolve():
                    raise DataError(f"{files[name].path} and {path} would both be {INPUT}/{name}. Rename one.")
                recognized = recognize(path, str(path), encoding, has_header, as_lines)
                files[name] = DataFile(path, name, split, recognized.layout)
                assumptions += recognized.assumptions
    return _by_name(list(files.values()), held_out, assumptions), assumptions


def place_files(files: Sequence[DataFile], root: Path, replaced: Path, force: bool) -> list[Path]:
    """Copies files into the folder `input` of a project; one that is there already stays.

    Args:
        files: the files.
        root: the folder of the project.
        replaced: folder for files of the same names with other content, if `force`.
        force: whether such files may be replaced.

    Returns:
        The new files.

    Raises:
        DataError: there is a file of the same name with other content, and no `force`.
    """
    added = []
    for file in files:
        target = root / file.target
        if target.exists() and target.resolve() == file.path.resolve():
            continue
        if target.is_file() and file_digest(target) == file_digest(file.path):
            continue
        if target.exists():
            if not force:
                raise DataError(
                    f"{target} exists and differs from {file.path}. Rename one, or add --force, which keeps the old "
                    f"file in {replaced}."
                )
            replaced.mkdir(parents=True, exist_ok=True)
            shutil.move(target, replaced / file.name.replace("/", "_"))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.writing")
        shutil.copyfile(file.path, temporary)
        temporary.replace(target)
        added.append(target)
    return added


_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_NO_NAMES = ("train", "training", "data", "all")


def name_of(files: Sequence[DataFile]) -> str:
    """A name for a data set: that of its first file, or of a folder above it, if it is called train, data or the like.

    The number of a shard, as in `train-00000-of-00002.parquet`, is no part of the name.
    """
    path = files[0].path.resolve()
    stems = [_SHARD.sub("", path.name.split(".")[0]), *(folder.name for folder in path.parents[:2])]
    stem = next((stem for stem in stems if stem.lower() not in _NO_NAMES), "")
    name = re.sub(r"[^\w-]+", "_", stem).strip("_-")
    return name[:40] if name and name != INPUT else "data"


def _expanded(configured: str) -> Iterator[tuple[Path, str]]:
    """The files of a path, and their names in `input`: relative to a folder's parent."""
    try:
        paths = [Path(path) for path in find_files(configured, None)]
    except DataError as error:
        raise DataError(str(error).removeprefix("ingest.source.paths: ")) from None
    parent = Path(configured).resolve().parent if is_folder(Path(configured)) else None
    for path in paths:
        inside = _inside_input(path)
        if inside is not None:
            yield path, inside
        else:
            yield path, path.name if parent is None else path.resolve().relative_to(parent).as_posix()


def _inside_input(path: Path) -> str | None:
    """The name of a file that is in the folder `input` of a project already."""
    resolved = path.resolve()
    for parent in resolved.parents:
        if parent.name == INPUT and (parent.parent / "dvc.yaml").is_file():
            return resolved.relative_to(parent).as_posix()
    return None


def _by_name(files: list[DataFile], held_out: dict[str, Sequence[str]], assumptions: list[str]) -> list[DataFile]:
    """Files called test or dev become that split, unless one was given or no other file remains."""
    moved = []
    for file in files:
        words = re.split(r"[^a-z]+", file.path.name.split(".")[0].lower())
        split = next((_SPLIT_OF_NAME[word] for word in words if word in _SPLIT_OF_NAME), None)
        if file.split == "train" and split is not None and not held_out.get(split) and not file.is_text:
            moved.append(DataFile(file.path, file.name, split, file.layout))
        else:
            moved.append(file)
    if not any(file.split == "train" for file in moved):
        return files
    for before, file in zip(files, moved, strict=True):
        if before.split != file.split:
            assumptions.append(f"{file.path} is the {file.split} split, by its name; rename it if it is not")
    return moved
