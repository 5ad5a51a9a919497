"""Starts a service: checks the port, prepares the token, loads the models, and answers until SIGINT or SIGTERM."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.extras import require
from flows import environment
from flows.local_secrets import checked_secret, local_secret
from flows.project import Project
from flows.servers.guard import HOST, LOOPBACK, bound_socket
from flows.service.config import ServiceConfig

if TYPE_CHECKING:
    import uvicorn

    from flows.servers.guard import App
    from flows.service.models import Source

TOKEN_VARIABLE, TOKEN_FILE = "CCLM_SERVE_TOKEN", "serve.token"


def serve(targets: Sequence[str], config: ServiceConfig, with_token: bool) -> None:
    """Serves models until SIGINT or SIGTERM.

    Args:
        targets: `NAME`, `NAME@ALIAS`, or the path of a published folder, with at least one `/`.
        config: of the service.
        with_token: whether requests need a token.

    Raises:
        ConfigError: the port is in use; a target is not valid, or cannot be loaded.
        TrackingError: MLflow cannot be reached.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client", "orjson"):
        require(module, "serve")
    if config.host not in LOOPBACK and not with_token:
        raise ConfigError(f"--no-token must not be combined with --host {config.host}: everyone could send requests.")
    listener = _listener(config)
    folders = {target: Path(target).resolve() for target in targets if os.sep in target}
    project = _project(required=len(folders) < len(targets))
    token = _token(project) if with_token else None
    from flows.service.metrics import Metrics
    from flows.service.models import Models, SourceUnavailableError

    metrics = Metrics()
    try:
        models = Models(_sources(targets, folders, project, config), config, metrics)
    except SourceUnavailableError as error:
        raise ConfigError(f"{error}.") from None
    address = f"http://{config.host}:{config.port}"
    for key, model in models.by_key.items():
        route = "/embed" if model.current.predictor.task is None else "/predict"
        print(f"{key} version {model.current.version}: {address}{route}")
    print(f"Description: {address}/docs  (press Ctrl-C to stop)")
    if token is not None:
        print(f"Send `Authorization: Bearer TOKEN`. Token: {_where(token)}")
    else:
        print("warning: without a token, every user of this machine can send requests.", file=sys.stderr)
    sys.stdout.flush()
    from flows.service.app import build

    run(build(models, config, metrics, token), listener, config)


def run(app: "App", listener: socket.socket, config: ServiceConfig) -> None:
    """Answers requests until SIGINT or SIGTERM; then ends the requests that have begun, and takes no new ones."""
    server = make_server(app, config)
    # Uvicorn raises the signal again when it is done. This is a normal end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])


def make_server(app: "App", config: ServiceConfig) -> "uvicorn.Server":
    """The HTTP server of an application, with the time limits of the configuration."""
    import uvicorn

    from flows.service.limits import timed_protocol

    answer_seconds = 2 * config.client_seconds + config.max_seconds
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=timed_protocol(config.client_seconds, answer_seconds),
            ws="none",
            log_level="warning",
            limit_concurrency=config.max_connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(answer_seconds) + 1,
            server_header=False,
        )
    )


def _listener(config: ServiceConfig) -> socket.socket:
    try:
        return bound_socket(config.port, config.host)
    except OSError as error:
        if config.host == HOST:
            what, option = f"port {config.port} must be free", "port"
        else:
            what, option = f"port {config.port} of {config.host} must be free, and an address of this machine", "host"
        raise ConfigError(f"{what}: {error.strerror}. Choose another one with --{option}.") from None


def _project(required: bool) -> Project | None:
    """The project of this process; None if folders can be served without one."""
    try:
        project = Project.find()
    except ConfigError:
        if required:
            raise
        return None
    os.chdir(project.root)
    environment.apply(project)
    return project


def _sources(
    targets: Sequence[str], folders: Mapping[str, Path], project: Project | None, config: ServiceConfig
) -> "list[Source]":
    from flows.service.sources import FolderSource, RegistrySource, split_name
    from flows.tracking.client import connect

    sources: list[Source] = []
    for target in targets:
        if target in folders:
            sources.append(FolderSource(folders[target]))
            continue
        assert project is not None
        name, alias = split_name(target)
        project.require_writable("`cclm serve`")
        scratch = project.state("serving") / str(config.port)  # the port was free, so the folder is a leftover
        shutil.rmtree(scratch, ignore_errors=True)
        sources.append(RegistrySource(connect(project), name, alias, scratch))
    return sources


def _token(project: Project | None) -> str:
    if project is not None and not project.read_only:
        return local_secret(project, TOKEN_VARIABLE, TOKEN_FILE)
    if TOKEN_VARIABLE in os.environ:
        return checked_secret(os.environ[TOKEN_VARIABLE], TOKEN_VARIABLE)
    raise ConfigError(
        f"{TOKEN_VARIABLE} must be set, because there is no project that can store a token. Set it, or pass --no-token."
    )


def _where(token: str) -> str:
    """The token itself for a person at a terminal; where it is for a log."""
    if sys.stdout.isatty():
        return token
    return f"in the variable {TOKEN_VARIABLE}" if TOKEN_VARIABLE in os.environ else f"in {Path('.cclm') / TOKEN_FILE}"
