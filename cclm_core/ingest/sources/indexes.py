"""Reads the package indexes that the user configured for pip or uv.

unearth finds and downloads packages but ignores these settings; `pip download` reads them but runs the package's code.
"""

import ast
import os
import re
import subprocess
import sys
from typing import NamedTuple

PYPI = "https://pypi.org/simple/"

# uv's variables and pip's names for the same settings; later entries take precedence.
_UV = {
    "UV_INDEX_URL": "index-url",
    "UV_DEFAULT_INDEX": "index-url",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_INDEX": "extra-index-url",
    "UV_FIND_LINKS": "find-links",
    "UV_INSECURE_HOST": "trusted-host",
    "SSL_CERT_FILE": "cert",
}


class Indexes(NamedTuple):
    """Package indexes, and folders or pages of links, in search order.

    Args:
        index_urls: addresses of package indexes.
        find_links: folders or pages with links to packages; searched before the indexes.
        trusted_hosts: hosts whose certificates are not verified.
        certificates: file of CA certificates; None for the default.
    """

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None


def user_indexes() -> Indexes:
    """Returns the user's settings: pip's configuration files, overridden by PIP_* and then by uv's variables."""
    settings = _pip_files()
    settings |= {name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name[:4] == "PIP_"}
    settings |= {name: value for variable, name in _UV.items() if (value := os.environ.get(variable))}
    # uv allows named indexes: `name=https://…`.
    extra = [re.sub(r"^[^/=]*=", "", url) for url in _split(settings, "extra-index-url")]
    is_offline = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
    return Indexes(
        () if is_offline else (settings.get("index-url") or PYPI, *extra),
        tuple(_split(settings, "find-links")),
        tuple(_split(settings, "trusted-host")),
        settings.get("cert"),
    )


def _pip_files() -> dict[str, str]:
    """Returns the settings in pip's configuration files; empty if pip is not installed."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    settings = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in ("global", "install", "download"):
            settings[key] = str(ast.literal_eval(value))
    return settings


def _split(settings: dict[str, str], name: str) -> list[str]:
    return settings.get(name, "").replace(",", " ").split()
