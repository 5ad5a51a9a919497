"""The toy pipeline of `tests/flows`, run and registered once for all trials."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import environment
from tests.faults.pipeline import Pipeline, copied, settle, undisturbed
from tests.faults.servers import prefect_server
from tests.flows.conftest import Toy, model, template  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def settled(template: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    os.environ.update({name: environment.DEFAULTS[name] for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")})
    project = Toy(template).copy(tmp_path_factory.mktemp("settled") / "project")
    project.environment["TOY_MODEL"] = str(model)
    settle(project)
    return project.root


@pytest.fixture(scope="session")
def expected(settled: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # noqa: F811
    project = Toy(settled).copy(tmp_path_factory.mktemp("undisturbed") / "project")
    project.environment["TOY_MODEL"] = str(model)
    return undisturbed(project)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server."""
    with prefect_server(tmp_path_factory.mktemp("served") / "prefect") as server:
        yield f"http://127.0.0.1:{server.port}/api"


@pytest.fixture
def pipeline(settled: Path, model: Path, expected: dict[str, str], tmp_path: Path) -> Iterator[Pipeline]:  # noqa: F811
    pipeline = copied(settled, tmp_path, model, expected)
    yield pipeline
    for process in pipeline.processes():  # of a failed trial
        process.kill()
