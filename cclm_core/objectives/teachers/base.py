"""The contract of teachers, and the files that they are read from."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.encoders.pretrained.base import locate
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError

Vectors = npt.NDArray[np.float32]


class Teacher(ABC):
    """A model that turns texts into vectors.

    The vector of a text does not depend on the other texts of a call, so that stored vectors equal computed ones.

    Attributes:
        width: D, numbers per vector.
    """

    width: int

    @abstractmethod
    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (N, D) float32 of N texts; zeros for a text that the teacher cannot read."""


class TeacherConfig(Config, ABC):
    """Where the files of a teacher are. Only training needs them."""

    needs: ClassVar[tuple[str, ...]]
    """The files that a source must have."""

    knows_words: ClassVar[bool]
    """Whether vectors of single words are useful."""

    kind: str
    source: str | None = Field(
        default=None, description="a folder, in a pipeline in input/; or package:NAME for an installed package"
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="digest of its files, checked before use; if it is missing, the error gives it",
    )
    width: int | None = Field(
        default=None, ge=1, description="numbers per vector; if it is missing, the error gives it"
    )

    @abstractmethod
    def open(self) -> Teacher:
        """Reads the teacher.

        Raises:
            ConfigError: a key is missing, the source does not exist, or the teacher has another width.
            IntegrityError: the files have another digest.
            ArtifactError: a file is missing or damaged.
            MissingExtraError: an optional dependency is not installed.
        """

    def folder(self) -> Path:
        """The folder of the source. Raises ConfigError if it does not exist."""
        if self.source is None:
            raise ConfigError(f"teacher.source is missing. Name a folder with {' and '.join(self.needs)}.")
        path = locate(self.source)
        if not path.is_dir():
            raise ConfigError(f"teacher.source must be a folder, got {self.source!r:.200}. Put the files there.")
        return path

    def check(self, files: Sequence[Path], width: int) -> None:
        """Compares the names and bytes of `files`, and the width of the teacher, with the configuration.

        Raises:
            ConfigError: `sha256` or `width` is missing (the message has the keys to add), or the width is another one.
            IntegrityError: the digest is another one.
        """
        state = hashlib.sha256()
        for path in files:
            state.update(f"{path.name} {file_digest(path)}\n".encode())
        digest = state.hexdigest()
        if self.sha256 is None or self.width is None:
            raise ConfigError(
                "teacher needs sha256, so that a changed file is noticed, and width. Add "
                f"`sha256: {digest}, width: {width}`."
            )
        if self.sha256 != digest:
            raise IntegrityError(
                f"the teacher {self.source} has the SHA-256 {digest}, but the configuration expects {self.sha256}. "
                "Restore its files, or change `sha256`."
            )
        if self.width != width:
            raise ConfigError(f"teacher.width must be {width}, the width of {self.source}, got {self.width}.")


def single(folder: Path, pattern: str) -> Path:
    """The only file under `folder` that matches.

    Raises:
        ArtifactError: no file matches, or several do.
    """
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if len(paths) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in paths[:5]) or "none"
        raise ArtifactError(f"{folder} must contain one file {pattern}, got {names}. Name a folder with one.")
    return paths[0]


def unit(vectors: Vectors) -> Vectors:
    """Rows (N, D) divided by their length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
