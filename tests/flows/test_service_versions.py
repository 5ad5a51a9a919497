"""A newer version replaces the one that is served, without a dropped request; one that fails does not."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cclm_core.composition.store import save
from cclm_core.runtime.files import atomic_write
from flows.service.models import SourceUnavailableError
from tests.flows.services import Lengths, Service, ask, composition, saved, until

TEXT = "Give me excess"


class Clients:
    """Clients that ask without a pause until they are stopped, each on one connection."""

    def __init__(self, service: Service, number: int = 4) -> None:
        self.service, self.stop = service, threading.Event()
        self.answers: list[tuple[int, Any]] = []
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(number)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        until(lambda: len(self.answers) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        num_answers = len(self.answers)
        until(lambda: len(self.answers) > num_answers + 20 or self.errors)
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def _ask(self) -> None:
        try:
            with self.service.connection() as connection:
                while not self.stop.is_set():
                    self.answers.append(ask(connection, "/embed", {"texts": [TEXT]})[:2])
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.errors.append(error)


def test_a_new_version_replaces_the_old_one_under_load(tmp_path: Path) -> None:
    folder = saved(tmp_path / "full")
    expected = {}
    with Service([folder], batch_milliseconds=1) as service, Clients(service) as clients:
        for seed in (1, 2, 3):
            if seed > 1:
                saved(folder, seed)
            digest = composition(seed).digest
            until(lambda digest=digest: service.models.get(None).current.predictor.digest == digest)
            expected[service.models.get(None).current.version] = composition(seed).embed([TEXT])[0].mean(axis=0)
    assert not clients.errors and {status for status, _ in clients.answers} == {200}
    assert {answer["version"] for _, answer in clients.answers} == set(expected)
    for _, answer in clients.answers:
        np.testing.assert_allclose(answer["embeddings"][0], expected[answer["version"]], atol=1e-6)
    assert service.metric("model_loads_total", model="full", result="loaded") == 3
    series = [sample for family in service.metrics.model.collect() for sample in family.samples]
    assert [sample.labels["version"] for sample in series] == [service.models.get(None).current.version]
    assert [thread.name for thread in threading.enumerate()].count("full") == 0  # no thread of an old version is left


def test_a_version_that_does_not_load_leaves_the_old_one_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "full")
    broken = saved(tmp_path / "broken", 2)
    manifest = (broken / "manifest.json").read_text()
    with Service([folder]) as service:
        old = service.ask("/embed", {"texts": [TEXT]})[1]
        (broken / "composition.json").write_text("{}")
        atomic_write(folder / "manifest.json", manifest)  # of a version whose files are not there
        until(lambda: service.ask("/health")[1]["status"] == "degraded")
        problem = service.ask("/models")[1]["models"][0]["problem"]
        assert problem.startswith("full version ") and "is altered" in problem
        assert service.metric("model_stale", model="full") == 1
        assert service.ask("/embed", {"texts": [TEXT]})[1] == old
        assert service.ask("/health") == (200, {"status": "degraded", "ready": True})
        saved(folder, 3)
        until(lambda: service.ask("/health")[1]["status"] == "ok")
        assert service.ask("/embed", {"texts": [TEXT]})[1]["version"] != old["version"]
        assert service.metric("model_stale", model="full") == 0
        shutil.rmtree(folder)
        until(lambda: service.ask("/health")[1]["status"] == "degraded")
        assert "manifest.json not found" in service.ask("/models")[1]["models"][0]["problem"]
        assert service.ask("/embed", {"texts": [TEXT]})[0] == 200
    assert service.metric("model_loads_total", model="full", result="failed") == 1  # not once per look
    assert capsys.readouterr().err.count("is altered") == 1


def test_a_version_with_invalid_answers_is_tried_and_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "full")
    with Service([folder]) as service:
        model = composition(2)
        next(model.components.parameters()).data.fill_(float("nan"))
        save(model, folder)
        until(lambda: service.ask("/health")[1]["status"] == "degraded")
        assert "must be finite" in service.ask("/models")[1]["models"][0]["problem"]
        assert service.ask("/embed", {"texts": [TEXT]})[0] == 200


class Unreliable:
    """A source whose second version cannot be reached at first, then raises, then is there as the third."""

    name, alias = "lengths", "champion"

    def __init__(self) -> None:
        self.version, self.num_unreachable = "1", 3

    def latest(self) -> str:
        """See `Source.latest`."""
        if self.version == "2" and self.num_unreachable:
            self.num_unreachable -= 1
            raise SourceUnavailableError("connection refused")
        return self.version

    def load(self, version: str) -> Lengths:
        """See `Source.load`."""
        if version == "2":
            raise RuntimeError("a bug")
        return Lengths()


def test_a_source_that_cannot_be_reached_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    source = Unreliable()
    with Service([source]) as service:
        source.version = "2"
        model = service.models.get(None)
        until(lambda: model.problem == "the newest version is not known: connection refused")
        until(lambda: "version 2 is not served: it fails with RuntimeError" in model.problem)
        assert service.ask("/predict", {"texts": ["a"]})[1]["version"] == "1"
        source.version = "1"  # somebody moves the alias back
        until(lambda: not model.problem)
        source.version = "3"
        until(lambda: service.ask("/predict", {"texts": ["a"]})[1]["version"] == "3")
    assert "RuntimeError: a bug" in capsys.readouterr().err  # the traceback, for whoever runs the server
