"""All uses of MLflow's database tables. Checked for MLflow `CHECKED`.

`registered_digests` reads the columns `key` and `value` of the table `model_version_tags` in a SQLite store. MLflow's
client would take seconds to open, and `cclm status` has to answer at once. `local_champions` reads the columns `name`
and `alias` of the table `registered_model_aliases`.

`load_from_any_path` replaces `mlflow.models.model._download_artifact_from_uri`.

`artifact_folders` and `move_artifacts` read and change the columns in `LOCATIONS`, which hold absolute locations of
artifacts. MLflow has no API to change them.

`tests/flows/test_private.py` fails if another version of MLflow is installed. Run `tests/flows/test_status.py` and
`test_promote.py` with the new version, then widen `CHECKED`.
"""

import sqlite3
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

CHECKED = ">=3.17,<3.18"
LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def registered_digests(database: Path, tag: str) -> set[str] | None:
    """The values of a tag over all registered model versions; None if the database is locked or has another layout.

    Args:
        database: MLflow's SQLite file, opened read-only.
        tag: name of the tag.
    """
    try:
        with sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2) as connection:
            return {
                value for (value,) in connection.execute("SELECT value FROM model_version_tags WHERE key = ?", [tag])
            }
    except sqlite3.Error:
        return None


def local_champions(database: Path, alias: str) -> list[str]:
    """The names of the models with an alias, sorted; empty if the database is missing, locked or has another layout.

    Args:
        database: MLflow's SQLite file, opened read-only.
        alias: name of the alias.
    """
    if not database.is_file():
        return []
    query = "SELECT DISTINCT name FROM registered_model_aliases WHERE alias = ? ORDER BY name"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)) as connection:
            return [str(name) for (name,) in connection.execute(query, [alias])]
    except sqlite3.Error:
        return []


def load_from_any_path() -> None:
    """Makes MLflow load models from a folder with `%41` or `%2F` in its path, in this process.

    `Model.load` takes the path of a local file for a URI and unquotes it. Here it uses an existing file as it is.
    """
    from mlflow.models import model

    original = model._download_artifact_from_uri
    if getattr(original, "uses_local_files", False):
        return

    def download(artifact_uri: str, *arguments: Any, **options: Any) -> str:
        """Returns the path of a local file, or downloads it."""
        if not arguments and not options and Path(artifact_uri).is_file():
            return artifact_uri
        return str(original(artifact_uri, *arguments, **options))

    download.uses_local_files = True  # type: ignore[attr-defined]
    model._download_artifact_from_uri = download


def artifact_folders(database: Path) -> set[Path]:
    """The local folders named `mlruns` in which the experiments of a SQLite store keep their artifacts.

    Args:
        database: MLflow's SQLite file; empty if it does not exist or has another layout.
    """
    if not database.is_file():
        return set()
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    except sqlite3.Error:
        return set()
    paths = [_local_path(str(location)) for (location,) in rows if location]
    return {path for path in paths if path is not None and path.name == "mlruns"}


def move_artifacts(database: Path, old: Path, new: Path) -> None:
    """Replaces the folder `old` by `new` at the start of all locations in a SQLite store, in one transaction.

    Raises:
        sqlite3.Error: the database is locked or has another layout; nothing has changed.
    """
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        for table, column in LOCATIONS.items():
            for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )


def _local_path(location: str) -> Path | None:
    parsed = urllib.parse.urlsplit(location)
    if parsed.scheme == "file":
        return Path(urllib.request.url2pathname(parsed.path))
    return Path(location) if location.startswith("/") else None
