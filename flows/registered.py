"""Registered models as folders, for commands that read them: copied, and their seal checked."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.gate.registry import Registry, model_name
from flows.gate.seal import SealError, sealed_copy
from flows.gate.served import published_in
from flows.project import Project
from flows.service.sources import split_name
from flows.tracking.client import connect


@contextmanager
def registered_folder(target: str) -> Iterator[Path]:
    """The published folder in the version of a registered model. No code in the version is run.

    Args:
        target: `NAME@ALIAS`.

    Raises:
        ConfigError: an unknown alias, no version has it, or its seal is not valid.
        TrackingError: MLflow cannot be reached.
    """
    name, alias = split_name(target)
    project = Project.find()
    environment.apply(project)
    tracking, model = connect(project), model_name(name)
    version = Registry(tracking).get(model, alias)
    if version is None:
        raise ConfigError(f"{model} has no version with the alias {alias}. Set it with `cclm promote`.")
    with tempfile.TemporaryDirectory(dir=project.state("reading")) as parent:
        folder = Path(parent) / "model"
        try:
            sealed_copy(tracking, model, version.number, version.tags, folder)
        except SealError as error:
            raise ConfigError(
                f"{model} version {version.number} is not read: {error}. Run `cclm promote` to register it again."
            ) from None
        yield published_in(folder)
