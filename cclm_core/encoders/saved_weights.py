"""The weights of a published model under their full names, found without building the model.

| published | names |
|---|---|
| embedder | `embedding.…`, `encoder.…` |
| component | `body.…`; with an embedding or a base of its own `embedding.…` |
| composition | `base.…`, `parts.NAME.…`, each with the names of its kind; `fusion.…` |
| a `*.safetensors` file | the names in the file |
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.pretrained.base import locate
from cclm_core.encoders.pretrained.catalogue import AnyEmbeddingConfig
from cclm_core.encoders.store import CARD, PREPROCESSOR, WEIGHTS, read_card
from cclm_core.encoders.weights import Header, read_header, read_tensors
from cclm_core.runtime.artifacts import file_digest, verify
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.own_code import carried
from cclm_core.text.vocabulary import Preprocessor

COMPONENT_CARD, COMPONENT_WEIGHTS = "component.json", "component.safetensors"
COMPOSITION_CARD, FUSION_WEIGHTS = "composition.json", "fusion.safetensors"
BASE, PARTS = "base", "parts"
"""Files and folders of saved components and compositions; `composition/store.py` writes them."""

KINDS = ("embedder", "component", "composition")
"""The kinds of published folders that have weights to start from."""

_SUFFIX = ".safetensors"


class _Networks(Config):
    """The networks of an embedder or a component."""

    encoder: EncoderConfig
    embedding: AnyEmbeddingConfig | None = None
    direction: Literal["forward", "backward"] = "forward"


@dataclass(frozen=True)
class SavedWeights:
    """Where the weights of a published model are, and what they mean.

    Attributes:
        source: its name in messages.
        headers: full name of each weight -> its shape and type.
        settings: full name of each network with a configuration -> that configuration, as plain JSON values.
        vocabulary: digest of its vocabulary; None for a file, which has none.
        preprocessor: its vocabulary itself; None for a component, which has only the digest.
    """

    source: str
    headers: dict[str, Header] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    vocabulary: str | None = None
    preprocessor: Preprocessor | None = None
    _files: dict[str, tuple[Path, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, source: str) -> "SavedWeights":
        """Reads cards and headers of a source, not the weights.

        Args:
            source: a published folder or a `*.safetensors` file, or `package:NAME/PATH`.

        Raises:
            ConfigError: there is no such file, folder or package; or the model carries code that is not trusted.
            ArtifactError: a file is missing or damaged, or the folder has no such model.
        """
        path, files = locate(source), _Files()
        if path.is_file():
            files.add("", _safetensors(path))
        else:
            files.model("", path)
        vocabulary = files.vocabulary if files.preprocessor is None else files.preprocessor.digest
        return cls(source, files.headers, files.settings, vocabulary, files.preprocessor, files.located)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The weights of these full names, with the types of the file.

        Raises:
            ArtifactError: a file is damaged, or a weight is NaN or infinite.
        """
        by_file: dict[Path, dict[str, str]] = {}
        for name in names:
            path, inner = self._files[name]
            by_file.setdefault(path, {})[inner] = name
        return {
            full_names[inner]: tensor
            for path, full_names in by_file.items()
            for inner, tensor in read_tensors(path, full_names).items()
        }


def source_digest(source: str) -> str:
    """SHA-256 of a source: of the manifest of a published folder, whose files are checked against it, or of a file.

    Raises:
        ConfigError: there is no such file, folder or package.
        ArtifactError: the folder is not a published embedder, component or composition.
        IntegrityError: a file of the folder differs from the manifest.
    """
    path = locate(source)
    remedy = f"Restore {path}: copy or fetch it again."
    return file_digest(_safetensors(path)) if path.is_file() else verify(path, *KINDS, remedy=remedy)


def networks_of(
    encoder_name: str, encoder: Config, embedding: Config | None, is_backward: bool = False
) -> dict[str, dict[str, Any]]:
    """The settings of a model, which determine what its weights compute; see `SavedWeights.settings`.

    Args:
        encoder_name: the name of its encoder among its weights: `encoder` of an embedder, `body` of a component.
        encoder: the configuration of the encoder.
        embedding: the configuration of its embedding; None if it has none of its own.
        is_backward: whether it reads each text from its end.
    """
    direction = {"direction": "backward"} if is_backward else {}
    settings = dict(_with_parts(encoder_name, encoder.canonical() | direction))
    return settings if embedding is None else settings | {"embedding": embedding.canonical()}


def _with_parts(name: str, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A network and, if it is a combination, its parts, by their names among the weights."""
    yield name, settings
    parts = settings.get("parts")
    for number, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield from _with_parts(f"{name}.parts.{number}", part)
    if isinstance(part := settings.get("part"), dict):
        yield from _with_parts(f"{name}.parts.0", part)  # residual


class _Files:
    """Collects the weights and the settings of a folder and of the models in it."""

    def __init__(self) -> None:
        self.headers: dict[str, Header] = {}
        self.located: dict[str, tuple[Path, str]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.vocabulary: str | None = None
        self.preprocessor: Preprocessor | None = None

    def add(self, prefix: str, path: Path) -> None:
        """Adds the weights of a file."""
        for name, header in read_header(path).items():
            self.headers[f"{prefix}{name}"] = header
            self.located[f"{prefix}{name}"] = (path, name)

    def model(self, prefix: str, folder: Path) -> None:
        """Adds the weights of a model and of all models in it."""
        if (folder / CARD).is_file():
            self._embedder(prefix, folder)
        elif (folder / COMPONENT_CARD).is_file():
            self._component(prefix, folder)
        elif (folder / COMPOSITION_CARD).is_file():
            if (folder / BASE).is_dir():
                self.model(f"{prefix}{BASE}.", folder / BASE)
            for part in sorted((folder / PARTS).iterdir()) if (folder / PARTS).is_dir() else ():
                self.model(f"{prefix}{PARTS}.{part.name}.", part)
            if (folder / FUSION_WEIGHTS).is_file():
                self.add(f"{prefix}fusion.", folder / FUSION_WEIGHTS)
        else:
            raise ArtifactError(
                f"{folder} must contain {CARD}, {COMPONENT_CARD} or {COMPOSITION_CARD}. Name a published folder, or a "
                f"*{_SUFFIX} file."
            )

    def _embedder(self, prefix: str, folder: Path) -> None:
        values, _ = read_card(folder / CARD)
        self._networks(prefix, "encoder", folder / CARD, values)
        if self.preprocessor is None:
            self.preprocessor = Preprocessor.load(folder / PREPROCESSOR)
        self.add(prefix, folder / WEIGHTS)

    def _component(self, prefix: str, folder: Path) -> None:
        values, _ = read_card(folder / COMPONENT_CARD)
        own = values.get("independent") or {}
        kept = {key: own[key] for key in ("embedding", "direction") if key in own}
        self._networks(prefix, "body", folder / COMPONENT_CARD, {"encoder": values.get("encoder"), **kept})
        self.vocabulary = self.vocabulary or values.get("preprocessor_digest")
        self.add(prefix, folder / COMPONENT_WEIGHTS)
        if (folder / BASE).is_dir():  # a fork
            self.model(f"{prefix}embedding.", folder / BASE)

    def _networks(self, prefix: str, encoder: str, card: Path, values: dict[str, Any]) -> None:
        with carried(card.parent):
            parsed = _Networks.parse(values, str(card))
        named = networks_of(encoder, parsed.encoder, parsed.embedding, parsed.direction == "backward")
        self.settings |= {f"{prefix}{name}": values for name, values in named.items()}


def _safetensors(path: Path) -> Path:
    if path.suffix != _SUFFIX:
        raise ConfigError(
            f"weights must be in a published folder or a *{_SUFFIX} file, got {path}. Pickles are not read."
        )
    return path
