"""Where the models of a service come from: published folders, and the registry."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from cclm_core.runtime.artifacts import MANIFEST, folder_digest
from cclm_core.runtime.errors import ArtifactError, ConfigError
from flows.gate.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, model_name
from flows.gate.seal import SealError, sealed_copy
from flows.gate.served import published_in
from flows.service.models import SourceUnavailableError
from flows.service.predictors import Predictor, load_predictor
from flows.tracking.client import Tracking, TrackingError

ALIASES = (CHAMPION, CANDIDATE, PREVIOUS)
_NAME = re.compile(r"[\w.-]+")


class FolderSource:
    """A published folder. Its version is the beginning of its digest.

    Args:
        folder: the folder. When a stage publishes it again, the new model is a new version.
    """

    alias = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

    def latest(self) -> str:
        """See `Source.latest`."""
        if not (self.folder / MANIFEST).is_file():
            raise ArtifactError(
                f"{MANIFEST} not found in {self.folder}. Pass a folder that a stage or `save` has published, or "
                "the NAME of a registered model."
            )
        return folder_digest(self.folder)[:12]

    def load(self, version: str) -> Predictor:
        """See `Source.load`."""
        predictor = load_predictor(self.folder)
        if (now := self.latest()) != version:
            raise SourceUnavailableError(
                f"{self.folder} was published again, from {version} to {now}, while it was read"
            )
        return predictor


class RegistrySource:
    """The version of a registered model that has an alias.

    The files of a version are copied to a private folder, their seal is checked, and only then is the model in them
    read, with the installed library. The code in the version is not run.

    Args:
        tracking: the connection to MLflow.
        name: of the composition or task, without `cclm-`.
        alias: one of `ALIASES`.
        scratch: a folder for the copies, which are deleted when they have been read.
    """

    def __init__(self, tracking: Tracking, name: str, alias: str, scratch: Path) -> None:
        self.name, self.alias = name, alias
        self._tracking, self._registry, self._scratch = tracking, Registry(tracking), scratch

    def latest(self) -> str:
        """See `Source.latest`."""
        model = model_name(self.name)
        try:
            number = self._registry.model(model).aliases.get(self.alias)
        except TrackingError as error:
            raise SourceUnavailableError(f"MLflow failed: {error}") from None
        if number is None:
            raise ConfigError(
                f"{model} has no version with the alias {self.alias}. Set it with `cclm promote`. To serve a folder, "
                f"pass its path, such as ./{self.name}."
            )
        return number

    def load(self, version: str) -> Predictor:
        """See `Source.load`."""
        folder = self._scratch / f"{self.name}-{version}"
        try:
            tags = self._registry.version(model_name(self.name), version).tags
            sealed_copy(self._tracking, model_name(self.name), version, tags, folder)
            return load_predictor(published_in(folder))
        except TrackingError as error:
            raise SourceUnavailableError(f"MLflow failed: {error}") from None
        except SealError as error:
            raise ConfigError(f"{error}. Run `cclm promote` to register the model again.") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # there is another copy in it
                self._scratch.rmdir()


def split_name(target: str) -> tuple[str, str]:
    """The name and the alias in `NAME` or `NAME@ALIAS`.

    Raises:
        ConfigError: it is not a name, or there is no such alias.

    >>> split_name("full"), split_name("full@candidate")
    (('full', 'champion'), ('full', 'candidate'))
    """
    name, _, alias = target.partition("@")
    alias = alias if "@" in target else CHAMPION
    if not _NAME.fullmatch(name) or alias not in ALIASES:
        raise ConfigError(
            f"a model must be NAME, NAME@ALIAS or the path of a folder, got {target!r:.80}. Aliases are "
            f"{', '.join(ALIASES)}."
        )
    return name, alias
