"""`cclm ui`: checks the port, prepares the token, then replaces this process by the server."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.gate.comparison_views import save_comparison_views
from flows.graph.plan import read_plan
from flows.local_secrets import local_secret
from flows.project import Project
from flows.run.report_page import newest_report
from flows.servers import pages
from flows.servers.guard import HOST, USER, bound_socket
from flows.tracking.client import connect, page_url, tracking_uri

UI_TOKEN_FILE = "ui.token"


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
    tracking, plan, server = connect(project), read_plan(project, changes=False), f"http://{HOST}:{port}"
    views = save_comparison_views(tracking, plan)
    token = local_secret(project, pages.TOKEN_VARIABLE, UI_TOKEN_FILE)
    print(f"MLflow: {page_url(server, tracking.experiment_id)}  (press Ctrl-C to stop)")
    for name, path in views.items():
        print(f"{name}: {server}/{path}")
    page = newest_report(project, plan)
    if page is not None:
        print(f"Report: {page.as_uri()}")
    print(f"User name: {USER}  Password: {_where(token, pages.TOKEN_VARIABLE, UI_TOKEN_FILE)}", flush=True)
    _replace("flows.servers.pages", [uri, str(port)], {pages.TOKEN_VARIABLE: token})


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


def _replace(module: str, arguments: list[str], settings: Mapping[str, str]) -> NoReturn:
    variables = environment.for_children(dict(settings))
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], variables)
