"""Where the servers keep their data: our own PostgreSQL cluster, the server that a URL names, or SQLite files."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import ConfigError

USER = "cclm"
NAMES = ("prefect", "mlflow", "mlflow_users")
DEBIAN = Path("/usr/lib/postgresql")  # one folder per version
# PostgreSQL refuses to run as root: the user of Debian's package runs it, with data where that user can read them.
ROOT_USER, ROOT_FOLDER = "postgres", Path("/var/lib/cclm")


@dataclass(frozen=True)
class Database:
    """The databases of the stack.

    Attributes:
        urls: one per name in `NAMES`.
        kinds: values of `cclm_only` in stack.conf that apply: `own` (a cluster of ours), `postgresql`.
        binaries: folder of PostgreSQL's programs, for a cluster of ours.
        data: folder of that cluster.
        user: user that runs it.
    """

    urls: dict[str, str]
    kinds: str = ""
    binaries: str = ""
    data: str = ""
    user: str = str(os.geteuid())

    def variables(self) -> dict[str, str]:
        """The variables that stack.conf refers to."""
        prefect = self.urls["prefect"].replace("postgresql:", "postgresql+asyncpg:")
        return {
            "CCLM_DATABASES": " ".join(self.urls.values()),
            "CCLM_PREFECT_DATABASE": prefect.replace("sqlite:", "sqlite+aiosqlite:"),
            "CCLM_MLFLOW_DATABASE": self.urls["mlflow"],
            "CCLM_POSTGRESQL_BIN": self.binaries,
            "CCLM_POSTGRESQL_DATA": self.data,
            "CCLM_POSTGRESQL_USER": self.user,
        }

    def create_cluster(self, password: str) -> None:
        """Creates our own cluster, if there is to be one and it is missing.

        Raises:
            ConfigError: `initdb` failed.
        """
        data = Path(self.data)
        if not self.binaries or (data / "PG_VERSION").is_file():
            return
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", prefix="cclm-") as file:
            file.write(password + "\n")
            file.flush()
            command = [f"{self.binaries}/initdb", "--pgdata", self.data, "--username", USER, "--pwfile", file.name]
            command += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--data-checksums"]
            if self.user == ROOT_USER:
                for path in (data.parent, data, Path(file.name)):
                    shutil.chown(path, ROOT_USER, ROOT_USER)
                command = ["runuser", "--user", ROOT_USER, "--", *command]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode != 0:
            raise ConfigError(f"initdb failed with exit code {done.returncode}:\n{done.stderr.strip()[-1000:]}")
        with (data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write("listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")


def choose(folder: Path, url: str, password: str, port: str) -> Database:
    """The databases for CCLM_DATABASE_URL.

    Args:
        folder: of the stack.
        url: of a PostgreSQL server, or `sqlite`; "" selects our own cluster.
        password: of our own cluster.
        port: of our own cluster.

    Raises:
        ConfigError: the URL is invalid, or PostgreSQL is not installed.
    """
    if url == "sqlite":
        return Database({name: f"sqlite:///{folder / name}.db" for name in NAMES})
    if url:
        scheme, _, server = url.rstrip("/").partition("://")
        if scheme not in ("postgresql", "postgres") or "/" in server:  # the message must not contain a password
            raise ConfigError(
                "CCLM_DATABASE_URL must be `sqlite` or postgresql://USER:PASSWORD@HOST:PORT, without a database, got "
                f"{scheme}://...@{server.rpartition('@')[2]}."
            )
        return Database({name: f"postgresql://{server}/cclm_{name}" for name in NAMES}, "postgresql")
    urls = {name: f"postgresql://{USER}:{password}@127.0.0.1:{port}/cclm_{name}" for name in NAMES}
    if os.geteuid() != 0:
        return Database(urls, "own postgresql", str(_binaries()), str(folder / "postgresql"))
    if ROOT_USER not in (entry.pw_name for entry in pwd.getpwall()):
        raise ConfigError(f"PostgreSQL refuses to run as root, and there is no user {ROOT_USER}. Run as another user.")
    project = folder.parents[1]
    data = ROOT_FOLDER / f"{project.name}-{hashlib.sha256(str(project).encode()).hexdigest()[:8]}" / "postgresql"
    return Database(urls, "own postgresql", str(_binaries()), str(data), ROOT_USER)


def _binaries() -> Path:
    """The folder of PostgreSQL's programs: in PATH, otherwise Debian's newest version."""
    in_path = shutil.which("postgres")
    debian = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if not in_path and not debian:
        raise ConfigError(
            "PostgreSQL not found in PATH or /usr/lib/postgresql. Install it (Debian: `apt-get install postgresql`), "
            "or set CCLM_DATABASE_URL to postgresql://USER:PASSWORD@HOST:PORT of an existing server, or to `sqlite`."
        )
    return Path(in_path).resolve().parent if in_path else debian[-1].parent
