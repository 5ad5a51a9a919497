"""All uses of MLflow's database tables. Checked for MLflow `CHECKED`.

`registered_digests` reads the columns `key` and `value` of the table `model_version_tags` in a SQLite store. MLflow's
client would take seconds to open, and `cclm status` has to answer at once.

`tests/flows/test_private.py` fails if another version of MLflow is installed. Run `tests/flows/test_status.py` and
`test_promote.py` with the new version, then widen `CHECKED`.
"""

import sqlite3
from pathlib import Path

CHECKED = ">=3.17,<3.18"


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
