"""`cclm ui` and `cclm serve`: check the port, prepare token and model, then replace this process by the server."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.gate.registry import Registry, model_name
from flows.gate.seal import SealError, sealed_copy
from flows.local_secrets import local_secret
from flows.project import Project
from flows.servers import embeddings, pages
from flows.servers.guard import HOST, USER, bound_socket
from flows.tracking.client import connect, page_url, tracking_uri

UI_TOKEN_FILE, SERVE_TOKEN_FILE = "ui.token", "serve.token"


def start_pages(project: Project, port: int) -> None:
    """Runs MLflow's pages on the project's database; with another MLflow server, only prints its address.

    Raises:
        ConfigError: the port is in use.
        TrackingError: MLflow cannot be reached.
    """
    uri = tracking_uri(project)
    if uri.startswith("http"):
        print(f"MLflow is at {uri}")
        return
    check_port(port)
    project.require_writable("`cclm ui`")
    experiment = connect(project).experiment_id
    token = local_secret(project, pages.TOKEN_VARIABLE, UI_TOKEN_FILE)
    print(f"MLflow: {page_url(f'http://{HOST}:{port}', experiment)}  (press Ctrl-C to stop)")
    print(f"User name: {USER}  Password: {_where(token, pages.TOKEN_VARIABLE, UI_TOKEN_FILE)}", flush=True)
    _replace("flows.servers.pages", [uri, str(port)], {pages.TOKEN_VARIABLE: token})


def start_serving(
    project: Project, composition: str, alias: str, port: int, limits: embeddings.Limits, with_token: bool
) -> None:
    """Serves the version of a composition with the given alias, from a copy whose seal was checked.

    Args:
        project: the project with the registry.
        composition: name of the composition.
        alias: `champion`, `candidate` or `previous`.
        port: on 127.0.0.1.
        limits: of a request.
        with_token: whether requests need a token.

    Raises:
        ConfigError: the port is in use, no version has the alias, or its seal is not valid.
        TrackingError: MLflow cannot be reached.
    """
    check_port(port)
    project.require_writable("`cclm serve`")
    tracking, model = connect(project), model_name(composition)
    version = Registry(tracking).get(model, alias)
    if version is None:
        raise ConfigError(f"{model} has no version with the alias {alias}. Set it with `cclm promote`.")
    folder = project.state("serving") / str(port)  # the port is free, so the folder is a leftover
    shutil.rmtree(folder, ignore_errors=True)
    try:
        sealed_copy(tracking, model, version.number, version.tags, folder)
    except SealError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(
            f"{model} version {version.number} is not served: {error}. Run `cclm promote` to register the composition "
            "again."
        ) from None
    settings = {embeddings.LIMITS_VARIABLE: json.dumps([*vars(limits).values()])}
    print(f"{model} version {version.number} ({alias}): http://{HOST}:{port}/invocations  (press Ctrl-C to stop)")
    if with_token:
        token = local_secret(project, embeddings.TOKEN_VARIABLE, SERVE_TOKEN_FILE)
        settings[embeddings.TOKEN_VARIABLE] = token
        print(
            f"Send `Authorization: Bearer TOKEN`. Token: {_where(token, embeddings.TOKEN_VARIABLE, SERVE_TOKEN_FILE)}"
        )
    else:
        print("warning: without a token, every user of this machine can send requests.", file=sys.stderr)
    sys.stdout.flush()
    unset = () if with_token else (embeddings.TOKEN_VARIABLE,)
    _replace("flows.servers.embeddings", [str(folder), str(port)], settings, unset)


def check_port(port: int) -> None:
    """Checks that a port of 127.0.0.1 is free.

    Raises:
        ConfigError: it is not.
    """
    try:
        bound_socket(port).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is out of range"
        raise ConfigError(f"port {port} must be free: {reason}. Choose another one with --port.") from None


def _where(token: str, variable: str, name: str) -> str:
    """The token itself for a person at a terminal; where it is for a log."""
    if sys.stdout.isatty():
        return token
    return f"in the variable {variable}" if variable in os.environ else f"in {Path('.cclm') / name}"


def _replace(module: str, arguments: list[str], settings: Mapping[str, str], unset: tuple[str, ...] = ()) -> NoReturn:
    variables = environment.for_children(dict(settings), without=unset)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], variables)
