"""The contract of pretrained embeddings, and where they are read from."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.pretrained.rows import TextRows
from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError

PACKAGE = "package:"
FOLDER = "embedding"
"""The folder with the files of a pretrained embedding, next to the weights of its model."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(/.+)?")


class not_compiled:  # noqa: N801  a decorator
    """`torch.compiler.disable` for a method, applied when an object's method is first looked up.

    It imports `torch._dynamo`, which takes as long as importing torch. Most processes never need it.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self._method
        disabled = torch.compiler.disable(self._method)  # type: ignore[no-untyped-call]
        setattr(self._owner, self._name, disabled)
        return disabled.__get__(instance, owner)


class PretrainedEmbedding(nn.Module, ABC):
    """Features per character that were trained elsewhere.

    The result is invariant to padding, to the rest of the batch and to the mode.

    Attributes:
        width: features per character.
        rate_factor: factor of the learning rate for its weights.
    """

    width: int
    rate_factor: float = 1.0

    def for_vocabulary(self, num_ids: int) -> None:
        """Creates the weights that depend on the vocabulary, if there are any: when a model gets the embedding."""

    @abstractmethod
    def forward(self, rows: TextRows) -> Tensor:
        """Features (B, L, width) of the ids of `rows`, zeros at padding."""

    @abstractmethod
    def write_files(self, folder: Path) -> None:
        """Writes everything but weights into an existing folder, from which `PretrainedConfig.load` reads it."""


class PretrainedConfig(Config, ABC):
    """Where a pretrained embedding is read from. A saved model includes the embedding and needs no source."""

    causal: ClassVar[bool] = False
    """The features of a character depend on later characters: those of its word, or of the whole text."""

    source: str | None = Field(
        default=None,
        description="a file or folder, in a pipeline in input/; or package:NAME, package:NAME/PATH for files in an "
        "installed package; null in a saved model",
    )
    sha256: str | None = Field(
        default=None,
        description="digest of the source, checked before anything is used; required in params.yaml. If it is missing, "
        "the error gives it",
    )
    width: int | None = Field(default=None, description="features per character; null until the source is read")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 must have 64 hexadecimal digits in lower case, got {self.sha256!r:.80}")
        if self.source is None and (self.width is None or self.sha256 is None):
            raise ValueError("source is missing. Name a file or folder, or package:NAME")
        if self.source is not None and self.width is not None:
            raise ValueError("width is that of the source. Remove it")
        return self

    @property
    def is_trained(self) -> bool:
        """Whether any of its weights is trained."""
        return False

    @abstractmethod
    def open(self) -> "tuple[Self, PretrainedEmbedding]":
        """Reads the source. Returns the configuration for a card, without the path, and the embedding.

        Raises:
            ConfigError: the source does not exist, or a setting does not fit it.
            ArtifactError: the source is damaged.
            IntegrityError: the source does not have the digest `sha256`.
            MissingExtraError: an optional dependency is not installed.
        """

    @abstractmethod
    def load(self, folder: Path) -> PretrainedEmbedding:
        """The embedding whose files `write_files` wrote to `folder`. Its weights come later.

        Raises:
            ArtifactError: a file is missing or damaged.
            MissingExtraError: an optional dependency is not installed.
        """

    def require_digest(self, where: str) -> None:
        """Checks that the configuration has the digest of its source, so that another file is another configuration.

        Args:
            where: the key of this configuration in messages, such as `params.yaml: components.words.embedding`.

        Raises:
            ConfigError: it does not; the message has the digest to add.
        """
        if self.sha256 is None:
            raise ConfigError(
                f"{where}.sha256 is missing, so a changed file would not be noticed. Add `sha256: {self.digest()}`."
            )

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the source. Raises like `open`."""

    def checked(self, digest: str) -> str:
        """Returns the digest of the source, if it is the expected one.

        Raises:
            IntegrityError: it is another one.
        """
        if self.sha256 not in (None, digest):
            raise IntegrityError(
                f"{self.source} has the SHA-256 {digest}, but the configuration expects {self.sha256}. Restore the "
                "file, or change `sha256`."
            )
        return digest


def locate(source: str) -> Path:
    """The path of a source: itself, or a path inside an installed package, which is not imported.

    Raises:
        ConfigError: there is no such file, folder or package.
    """
    if not source.startswith(PACKAGE):
        path = Path(source)
        if not path.exists():
            raise ConfigError(f"source {source!r:.200} not found. Put the file there, or change the path.")
        return path
    rest = source.removeprefix(PACKAGE)
    if not _PACKAGE.fullmatch(rest):
        raise ConfigError(f"source must be package:NAME or package:NAME/PATH, got {source!r:.200}.")
    name, _, inner = rest.partition("/")
    spec = find_spec(name)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    if not folders:
        raise ConfigError(
            f"source {source!r:.200}: the package {name} is not installed. Install it, or write its import name."
        )
    path = folders[0] / inner
    if ".." in Path(inner).parts or not path.exists():
        raise ConfigError(f"source {source!r:.200}: {inner} not found in {folders[0]}.")
    return path


def rate_factors(module: nn.Module) -> dict[str, float]:
    """Name of a weight -> factor of its learning rate, for the trained weights of pretrained embeddings in a module."""
    return {
        f"{path}.{name}" if path else name: part.rate_factor
        for path, part in module.named_modules()
        if isinstance(part, PretrainedEmbedding) and part.rate_factor != 1
        for name, _ in part.named_parameters()
    }


def joined_digest(digests: dict[str, str]) -> str:
    """SHA-256 of the names and digests of several files."""
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def single(paths: list[Path], what: str, folder: Path) -> Path:
    """The only path of a list.

    Raises:
        ArtifactError: the list is empty, or has several paths.
    """
    if len(paths) != 1:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in paths)[:5]) or "none"
        raise ArtifactError(f"{folder} must contain {what}, exactly one, got {names}. Name the folder or file itself.")
    return paths[0]
