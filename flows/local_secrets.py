"""Secrets of this project: tokens of its servers and the key of its registry, in files that only this user can read."""

import os
import secrets
import stat

from cclm_core.runtime.errors import ConfigError
from flows.project import Project

MIN_LENGTH = 16  # of a secret that you choose yourself


def local_secret(project: Project, variable: str, name: str) -> str:
    """The value of an environment variable, otherwise of the file `.cclm/<name>`, which is created with a random value.

    Args:
        project: the project that has the file.
        variable: the environment variable, which takes precedence.
        name: of the file; its mode is 600.

    Raises:
        ConfigError: the value is too short or is not printable ASCII, or the file belongs to another user.
    """
    if variable in os.environ:
        return checked_secret(os.environ[variable], variable)
    path = project.state() / name
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError(f"{path} must be a file of your own. Delete it, and run the command again.")
    if status.st_mode & 0o077:
        path.chmod(0o600)
    return checked_secret(path.read_text(encoding="utf-8", errors="replace"), str(path))


def checked_secret(value: str, where: str) -> str:
    """A secret without the spaces around it.

    Args:
        value: the secret.
        where: its variable or file, for the message.

    Raises:
        ConfigError: it is too short or is not printable ASCII.
    """
    value = value.strip()
    if len(value) < MIN_LENGTH or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(
            f"{where} must have at least {MIN_LENGTH} printable ASCII characters without spaces. Set another value, or "
            "remove it to get a random one."
        )
    return value
