"""Where the servers keep their data: a PostgreSQL cluster of our own, a server that a URL names, or SQLite files.

As a program, `python -m flows.stack.database`: makes the databases that CCLM_DATABASES names, where they are missing.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cclm_core.runtime.errors import CclmError, ConfigError
from flows.stack.credentials import USER
from flows.stack.processes import identity

NAMES = ("prefect", "mlflow", "mlflow_users")
ROOT_USER = "postgres"  # PostgreSQL refuses to run as root; Debian's package makes this user
DEBIAN = Path("/usr/lib/postgresql")  # its own folder for each version
ROOT_FOLDER = Path("/var/lib/cclm")


@dataclass(frozen=True)
class Databases:
    """The URLs of the databases, by the names of `NAMES`, and what the stack needs to know of their server.

    Attributes:
        kind: `own_database`, `postgresql` (somewhere else) or `sqlite`.
        binaries: folder of PostgreSQL's programs, "" when they are not needed.
        data: folder of our own cluster.
        user: who runs it; empty: who runs the stack.
    """

    urls: dict[str, str]
    kind: str
    binaries: str = ""
    data: str = ""
    user: str = ""

    def for_programs(self) -> dict[str, str]:
        """Where psql, pg_dump and the like find the server."""
        if self.kind == "sqlite":
            return {}
        url = urlsplit(self.urls[NAMES[0]])
        found = {
            "PGHOST": url.hostname,
            "PGPORT": str(url.port or 5432),
            "PGUSER": url.username,
            "PGPASSWORD": url.password,
        }
        return {name: unquote(value) for name, value in found.items() if value}


def choose(folder: Path, url: str, password: str, port: int) -> Databases:
    """The databases that `url` (CCLM_DATABASE_URL) asks for; an empty one asks for a cluster of our own.

    Raises:
        ConfigError: it is no such URL, or PostgreSQL is not installed.
    """
    if url == "sqlite":
        return Databases({name: f"sqlite:///{folder / name}.db" for name in NAMES}, "sqlite")
    if url:
        server = url.rstrip("/")
        if not server.startswith(("postgresql://", "postgres://")) or "/" in server.partition("://")[2]:
            raise ConfigError(
                "CCLM_DATABASE_URL must be postgresql://USER:PASSWORD@HOST:PORT, without a database, or `sqlite`; "
                f"got {_without_password(url)}."
            )
        server = server.replace("postgres://", "postgresql://", 1)
        return Databases({name: f"{server}/cclm_{name}" for name in NAMES}, "postgresql")
    binaries = _binaries()
    user = ROOT_USER if os.geteuid() == 0 else ""
    data = _root_folder(folder) if user else folder / "postgresql"
    urls = {name: f"postgresql://{USER}:{password}@127.0.0.1:{port}/cclm_{name}" for name in NAMES}
    return Databases(urls, "own_database", str(binaries), str(data), user)


def prepare(folder: Path, chosen: Databases, password: str) -> str:
    """Makes our own cluster when there is none; returns what the user should know of it, if anything.

    Raises:
        ConfigError: it could not be made.
    """
    if chosen.kind != "own_database":
        return ""
    data = Path(chosen.data)
    if chosen.user:
        _closed_folder(data, chosen.user)
        link = folder / "postgresql"
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(data)
    if not (data / "PG_VERSION").is_file():
        _initialise(chosen, password)
    if chosen.user:
        return f"PostgreSQL refuses to run as root: it runs as the user {chosen.user}, with its data in {data}"
    return ""


def set_password(chosen: Databases, password: str) -> None:
    """Changes the password of our own cluster, which must not run.

    Raises:
        ConfigError: PostgreSQL did not take it.
    """
    command = [f"{chosen.binaries}/postgres", "--single", "-D", chosen.data, "postgres"]
    _run(command, chosen.user, f"ALTER ROLE {USER} PASSWORD '{password}'\n")


def _initialise(chosen: Databases, password: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="cclm-") as file:
        file.write(password + "\n")
        file.flush()
        if chosen.user:
            shutil.chown(file.name, chosen.user)
        options = ["--username", USER, "--pwfile", file.name, "--encoding", "UTF8", "--locale", "C.UTF-8"]
        options += ["--auth", "scram-sha-256", "--data-checksums"]
        _run([f"{chosen.binaries}/initdb", "--pgdata", chosen.data, *options], chosen.user)
    settings = Path(chosen.data) / "postgresql.conf"
    with settings.open("a", encoding="utf-8") as stream:
        stream.write("listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")


def _run(command: list[str], user: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd="/", **identity(user))
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip()[-1000:]
        raise ConfigError(f"{Path(command[0]).name} must succeed; it ended with exit code {done.returncode}:\n{last}")


def _binaries() -> Path:
    """The folder of PostgreSQL's programs: in the path, or where Debian puts the newest."""
    found = shutil.which("initdb")
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    for path in [*([Path(found)] if found else []), *reversed(debian)]:
        folder = path.resolve().parent
        if all((folder / name).is_file() for name in ("initdb", "postgres", "pg_isready")):
            return folder
    raise ConfigError(
        "The stack needs PostgreSQL; neither the path nor /usr/lib/postgresql has it. Install it (Debian: "
        "`apt-get install postgresql`), or set CCLM_DATABASE_URL to postgresql://USER:PASSWORD@HOST:PORT of a server "
        "that you have, or to `sqlite` on a machine of your own."
    )


def _root_folder(folder: Path) -> Path:
    """Where root's cluster is: `.cclm` lets no other user in. One for each project, by its path."""
    project = folder.parent.parent
    return ROOT_FOLDER / f"{project.name}-{hashlib.sha256(str(project).encode()).hexdigest()[:8]}" / "postgresql"


def _closed_folder(data: Path, user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"PostgreSQL refuses to run as root, and this machine has no user {user} to run it as. Start the stack as "
            "an ordinary user, or set CCLM_DATABASE_URL."
        ) from None
    data.mkdir(parents=True, exist_ok=True)
    for one in (data.parent, data):
        shutil.chown(one, user, user)
        one.chmod(0o700)


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url


def create(urls: list[str], seconds: float = 60.0) -> None:
    """Makes each database that is missing, on a server that may still be starting.

    Raises:
        ConfigError: the server is not reached, or refuses.
    """
    import psycopg2  # type: ignore[import-untyped]

    for url in urls:
        server, _, name = url.rpartition("/")
        connection = _connect(f"{server}/postgres", seconds)
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
                print(f"database {name} made")
        except psycopg2.Error as error:
            names = ", ".join(f"cclm_{one}" for one in NAMES)
            raise ConfigError(
                f"The databases {names} must exist, or the user be allowed to make them: {error}"
            ) from None
        finally:
            connection.close()


def _connect(url: str, seconds: float) -> Any:
    import psycopg2

    deadline = time.monotonic() + seconds
    while True:
        try:
            return psycopg2.connect(url, connect_timeout=5)
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise ConfigError(f"{_without_password(url)} must be reached: {error}") from None
            time.sleep(1)


if __name__ == "__main__":
    try:
        create(os.environ["CCLM_DATABASES"].split())
    except CclmError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
