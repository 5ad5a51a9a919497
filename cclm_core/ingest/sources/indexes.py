"""Where the user's package indexes are: the settings of uv and pip, from the environment and pip's files.

What is set in the environment counts before pip's configuration files, as it does for pip. Nothing is installed.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

PYPI = "https://pypi.org/simple/"


class Indexes(NamedTuple):
    """Package indexes and folders or pages of links, in the order in which they are asked."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None


def user_indexes(
    environment: Mapping[str, str] | None = None, pip_settings: Mapping[str, str] | None = None
) -> Indexes:
    """The user's settings.

    Args:
        environment: None for that of this process.
        pip_settings: names like `index-url` → value, from pip's files; None asks pip, where there is one.
    """
    environment = os.environ if environment is None else environment
    settings = _pip_settings() if pip_settings is None else pip_settings

    def values(variables: tuple[str, ...], key: str | None) -> list[str]:
        for variable in variables:
            if environment.get(variable):
                return environment[variable].split()
        return settings.get(key, "").split() if key else []

    if environment.get("PIP_NO_INDEX", settings.get("no-index", "")).casefold() in ("1", "true", "yes", "on"):
        index_urls = []
    else:
        index_urls = [
            *(_unnamed(url) for url in values(("UV_INDEX",), None)),
            *(values(("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"), "index-url") or [PYPI]),
            *values(("UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"), "extra-index-url"),
        ]
    find_links = values(("UV_FIND_LINKS", "PIP_FIND_LINKS"), "find-links")
    return Indexes(
        tuple(dict.fromkeys(index_urls)),
        tuple(dict.fromkeys(path for item in find_links for path in item.split(",") if path)),
        tuple(values(("UV_INSECURE_HOST", "PIP_TRUSTED_HOST"), "trusted-host")),
        environment.get("SSL_CERT_FILE") or environment.get("PIP_CERT") or settings.get("cert"),
    )


def _pip_settings() -> dict[str, str]:
    """The values in pip's configuration files; empty where pip is missing or cannot say."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    settings: dict[str, str] = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in ("global", "install", "download"):
            settings[key] = value.strip("'\"").replace("\\n", " ")
    return settings


def _unnamed(url: str) -> str:
    """`UV_INDEX` may name its indexes: `name=https://…`."""
    name, separator, address = url.partition("=")
    return address if separator and "/" not in name else url
