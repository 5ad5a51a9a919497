"""Champions of a local registry on another one: copied once, verified, and without replacing what is there."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.gate import importing, overrides, promote
from flows.gate.gate import Verdict
from flows.gate.importing import import_champions
from flows.gate.lineage import LINEAGE_TAG
from flows.gate.overrides import accept, roll_back
from flows.gate.registry import CHAMPION, PREVIOUS, Registry
from flows.gate.stored_results import fetch_results
from flows.tracking.client import connect
from flows.tracking.mlflow_private import local_champions
from tests.flows.conftest import Toy, made_once
from tests.flows.test_promote import Promoter

CHECKED: list[str] = []


def prepare(patch: pytest.MonkeyPatch, project: Toy) -> None:
    """Works on a project, in which every model passes the load check."""
    patch.chdir(project.root)
    for name, value in {**environment.DEFAULTS, "DVC_SITE_CACHE_DIR": str(project.root / ".cclm/dvc")}.items():
        patch.setenv(name, value)
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connect.cache_clear()
    for module in (promote, overrides, importing):
        patch.setattr(module, "load_check", lambda uri, _: CHECKED.append(uri) or Verdict(True, ""))


def use_server(patch: pytest.MonkeyPatch, project: Toy) -> Registry:
    """Makes another registry the one in use."""
    connect.cache_clear()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root / 'server.db'}")
    return Registry(connect(project))


@pytest.fixture(scope="module")
def champions(reproduced: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose version 2 is champion and version 1 the previous one, and an empty registry next to its own."""

    def make(root: Path) -> None:
        project = Toy(reproduced).copy(root)
        with pytest.MonkeyPatch.context() as patch:
            prepare(patch, project)
            promoter = Promoter(project, model)
            for number, value in enumerate((0.5, 0.7), 1):
                promoter.make(number, {"f1": value})
                promoter.promote()
                accept(project, "both")
            use_server(patch, project)
        connect.cache_clear()

    return made_once(tmp_path_factory, "champions", make)


@pytest.fixture
def project(champions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A copy of it."""
    copy = Toy(champions).copy(tmp_path / "project")
    prepare(monkeypatch, copy)
    connect(copy)  # its artifacts are now those of the copy
    CHECKED.clear()
    return copy


def test_champions_are_copied_with_their_tags_results_and_aliases_once(
    project: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local_champions(project.root / "mlflow.db", CHAMPION) == ["cclm-both"]
    there = Registry(connect(project))
    here = use_server(monkeypatch, project)

    def fail(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(importing, "hand_over", fail)
        import_champions(project, "mlflow.db", lambda _: None)
    assert here.get("cclm-both", CHAMPION) is None and len(here.all_versions()) == 2
    # The next call finishes it, without second copies.
    (decision,) = import_champions(project, "mlflow.db", lambda _: None)
    assert (decision.version, decision.created, decision.result) == ("2", False, "champion")
    assert decision.reason == "imported from mlflow.db, version 2: accepted by a person"
    assert len(CHECKED) == 4 and len(here.all_versions()) == 2
    for alias in (CHAMPION, PREVIOUS):
        copy, original = here.get("cclm-both", alias), there.get("cclm-both", alias)
        assert copy and original and copy.tags["cclm.imported"] == f"{original.number} of mlflow.db"
        for tag in ("cclm.digest", "cclm.metrics", "cclm.evaluation", "git.commit", "cclm.bytes"):
            assert copy.tags[tag] == original.tags[tag], tag
        results = fetch_results(here.tracking, copy, project.root / f"results-{alias}")
        assert json.loads((results / "metrics.json").read_text()) == copy.metrics == original.metrics
        assert "run" not in copy.tags[LINEAGE_TAG]
    # Another call changes nothing, and what was imported is a champion like any other.
    (again,) = import_champions(project, "mlflow.db", lambda _: None)
    assert not again.decided and again.reason == "it is already here" and len(here.all_versions()) == 2
    assert roll_back(project, "both", "worse").version == "1"
    # It has another champion now, which stays.
    (kept,) = import_champions(project, "mlflow.db", lambda _: None)
    assert kept.version == "1" and kept.reason.startswith("it stays; version 2 of the other registry is another model")
    assert here.model("cclm-both").aliases[CHAMPION] == "1"


def test_what_cannot_be_imported_is_refused_before_anything_changes(
    project: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="db is the registry in use"):
        import_champions(project, "mlflow.db", lambda _: None)
    here = use_server(monkeypatch, project)
    with pytest.raises(ConfigError, match="db not found"):
        import_champions(project, "missing.db", lambda _: None)
    shutil.copy(project.root / "mlflow.db", project.root / "none.db")
    with closing(sqlite3.connect(project.root / "none.db")) as connection, connection:
        connection.execute("DELETE FROM registered_model_aliases")
    with pytest.raises(ConfigError, match="has no champions"):
        import_champions(project, "none.db", lambda _: None)
    cards = [path for path in (project.root / "mlruns").rglob("number.json") if path.read_text().strip() == "2"]
    assert cards
    for card in cards:
        card.write_text("3")
    with pytest.raises(ConfigError, match="nothing was imported: cclm-both version 2: its files are not those"):
        import_champions(project, "mlflow.db", lambda _: None)
    assert here.all_versions() == []
    assert local_champions(project.root / "none.db", CHAMPION) == []
    assert local_champions(project.root / "missing.db", CHAMPION) == []
