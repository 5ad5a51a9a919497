"""User names, passwords and addresses of the stack, made once and kept where no one else can read them."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from cclm_core.runtime.artifacts import write_text
from cclm_core.runtime.errors import ConfigError

ENVIRONMENT, SECRETS = "environment", "secrets"
USER = "cclm"


def client_settings(folder: Path, prefect_port: int, mlflow_port: int) -> dict[str, str]:
    """What a client of the stack needs, written to `environment`; passwords that are there are kept."""
    path = folder / ENVIRONMENT
    kept = read_settings(path)
    settings = {
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "PREFECT_API_AUTH_STRING": kept.get("PREFECT_API_AUTH_STRING") or f"{USER}:{_password()}",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
        "MLFLOW_TRACKING_USERNAME": kept.get("MLFLOW_TRACKING_USERNAME") or USER,
        "MLFLOW_TRACKING_PASSWORD": kept.get("MLFLOW_TRACKING_PASSWORD") or _password(),
    }
    write_settings(path, settings)
    return settings


def server_secrets(folder: Path, database: str | None) -> dict[str, str]:
    """What only the servers know, written to `secrets`.

    Args:
        database: what CCLM_DATABASE_URL says; None keeps what it said before, "" means a cluster of our own.
    """
    path = folder / SECRETS
    kept = read_settings(path)
    settings = {
        "CCLM_DATABASE_URL": kept.get("CCLM_DATABASE_URL", "") if database is None else database,
        "CCLM_POSTGRESQL_PASSWORD": kept.get("CCLM_POSTGRESQL_PASSWORD") or _password(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or _password(),
    }
    write_settings(path, settings)
    return settings


def read_settings(path: Path) -> dict[str, str]:
    """The lines NAME=value of a file; none where there is no file.

    Raises:
        ConfigError: a line is something else.
    """
    if not path.is_file():
        return {}
    settings = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals or not name.isidentifier():
                raise ConfigError(f"{path}:{number} must be NAME=value. Mend it, or delete the file: it is made anew.")
            settings[name] = value
    return settings


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Writes lines NAME=value that no one else can read."""
    write_text(path, "".join(f"{name}={value}\n" for name, value in settings.items()))
    path.chmod(0o600)


def _password() -> str:
    return secrets.token_urlsafe(24)
