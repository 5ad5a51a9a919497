"""Our own PostgreSQL cluster."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from cclm_core.runtime.errors import ConfigError

USER = "cclm"
DEBIAN = Path("/usr/lib/postgresql")  # one folder per version
# PostgreSQL refuses to run as root: the user of Debian's package runs it, with data that this user can read.
ROOT_USER, ROOT_FOLDER = "postgres", Path("/var/lib/cclm")


def cluster_variables(folder: Path, password: str) -> dict[str, str]:
    """The variables of stack.conf for the cluster of the stack in `folder`, which is created if it is missing.

    Raises:
        ConfigError: PostgreSQL is not installed, or refuses to create the cluster.
    """
    in_path = shutil.which("postgres")
    debian = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if not in_path and not debian:
        raise ConfigError(
            "PostgreSQL not found in PATH or /usr/lib/postgresql. Install it (Debian: `apt-get install postgresql`), "
            "or set CCLM_DATABASE_URL to postgresql://USER:PASSWORD@HOST:PORT of an existing server, or to `sqlite`."
        )
    binaries = (Path(in_path).resolve() if in_path else debian[-1]).parent
    user, data = str(os.geteuid()), folder / "postgresql"
    if os.geteuid() == 0:
        if ROOT_USER not in (entry.pw_name for entry in pwd.getpwall()):
            raise ConfigError(f"PostgreSQL refuses to run as root; user {ROOT_USER} not found. Run as another user.")
        project = folder.parents[1]
        name = f"{project.name}-{hashlib.sha256(str(project).encode()).hexdigest()[:8]}"
        user, data = ROOT_USER, ROOT_FOLDER / name / "postgresql"
    if not (data / "PG_VERSION").is_file():
        _create(binaries, data, user, password)
    return {"CCLM_POSTGRESQL_BIN": str(binaries), "CCLM_POSTGRESQL_DATA": str(data), "CCLM_POSTGRESQL_USER": user}


def _create(binaries: Path, data: Path, user: str, password: str) -> None:
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="cclm-") as file:
        Path(file.name).write_text(password, encoding="utf-8")
        command = [f"{binaries}/initdb", "--pgdata", str(data), "--username", USER, "--pwfile", file.name]
        command += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--data-checksums"]
        if user == ROOT_USER:
            for path in (data.parent, data, Path(file.name)):
                shutil.chown(path, ROOT_USER, ROOT_USER)
            command = ["runuser", "--user", ROOT_USER, "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise ConfigError(f"initdb failed with exit code {done.returncode}:\n{done.stderr.strip()[-1000:]}")
