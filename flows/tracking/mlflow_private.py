"""Everything that reads MLflow's own tables. Checked for MLflow `CHECKED`.

`registered_digests` reads the table `model_version_tags` with columns `key` and `value` of a SQLite store, because
opening it through MLflow's client takes seconds and `cclm status` must answer at once.

`tests/flows/test_private.py` fails when another version of MLflow is installed. Then run `tests/flows/test_status.py`
and `test_promote.py` with it, and widen `CHECKED`.
"""

import sqlite3
from pathlib import Path

CHECKED = ">=3.17,<3.18"


def registered_digests(database: Path, tag: str) -> set[str] | None:
    """The values of a tag of all registered model versions; None if the tables are of another version, or locked.

    Args:
        database: MLflow's SQLite file; it is opened read-only.
    """
    try:
        with sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2) as connection:
            return {
                value for (value,) in connection.execute("SELECT value FROM model_version_tags WHERE key = ?", [tag])
            }
    except sqlite3.Error:
        return None
