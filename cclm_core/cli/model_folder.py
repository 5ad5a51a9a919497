"""Which model a command means: a folder, a name in this project, or a registered model."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cclm_core.runtime.artifacts import MANIFEST
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ArtifactError, ConfigError

Registered = Callable[[str], AbstractContextManager[Path]]
"""Opens a registered model, NAME@ALIAS, as a folder."""

TASKS, ENSEMBLES, COMPOSITIONS = Path("models/tasks"), Path("models/ensembles"), Path("models/compositions")
BASE = Path("models/base")


@contextmanager
def model_folder(
    model: str, registered: Registered | None, parents: tuple[Path, ...] = (TASKS, ENSEMBLES)
) -> Iterator[Path]:
    """The folder of a model.

    Args:
        model: a folder; NAME, a model in one of `parents` of this project; or NAME@ALIAS, a registered model.
        registered: opens registered models; None if there is no registry.
        parents: folders of models, relative to the project.

    Raises:
        ConfigError: there is no registry.
        ArtifactError: there is no such model; the message lists those that exist.
    """
    path = Path(model)
    if (path / MANIFEST).is_file():
        yield path
        return
    if "@" in model:
        if registered is None:
            raise ConfigError(f"{model} is a registered model, which `cclm` of the full installation opens.")
        with registered(model) as folder:
            yield folder
        return
    root = _project()
    for parent in parents:
        if (root / parent / model / MANIFEST).is_file():
            yield root / parent / model
            return
    if model == "base" and COMPOSITIONS in parents and (root / BASE / MANIFEST).is_file():
        yield root / BASE
        return
    known = [folder.name for parent in parents for folder in (root / parent).glob("[!.]*") if folder.is_dir()]
    hint = nearest(model, known) if known else "the project has none yet. Run `cclm run`."
    raise ArtifactError(
        f"model {model} not found: it is no published folder, and not in {' or '.join(map(str, parents))}; {hint} A "
        f"registered model is NAME@ALIAS, such as {path.name or 'tickets'}@champion."
    )


def _project() -> Path:
    """The nearest folder with dvc.yaml, from the working directory upward, or else the working directory."""
    working_directory = Path.cwd()
    folders = (working_directory, *working_directory.parents)
    return next((folder for folder in folders if (folder / "dvc.yaml").is_file()), working_directory)
