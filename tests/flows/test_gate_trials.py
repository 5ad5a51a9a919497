"""The gate on a real registry: trials of which only the first promotes, and promotions killed at every write."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.artifacts import publishing, write_json
from flows import environment
from flows.gate import overrides
from flows.gate import promote as promotion
from flows.gate.gate import Verdict, load_check
from flows.gate.handover import HANDOVER_TAG
from flows.gate.integrity import retire
from flows.gate.overrides import accept, roll_back
from flows.gate.promote import pending
from flows.gate.registry import DIGEST_TAG, EVALUATION_TAG, METRICS_TAG, Registry
from flows.tracking.client import TrackingError, connect
from tests.flows.conftest import Toy
from tests.flows.test_promote import Promoter

MODEL = "cclm-both"
Aliases = tuple[str | None, str | None, str | None]


def skip_load_checks(monkeypatch: pytest.MonkeyPatch, unreadable: str | None = None) -> None:
    """Every version except `unreadable` passes the load check. Real checks take seconds; two trials run one."""

    def quick(uri: str, _tracking: str) -> Verdict:
        return Verdict(not uri.endswith(f"/{unreadable}"), "it does not load")

    for module in (promotion, overrides):
        monkeypatch.setattr(module, "load_check", quick)


def open_promoter(project: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> Promoter:
    monkeypatch.chdir(project.root)
    for name, value in environment.DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.root / ".cclm/dvc"))
    monkeypatch.setenv("PREFECT_HOME", str(project.root / ".cclm/prefect"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Promoter(project, model)


@pytest.fixture(scope="module")
def with_champion(reproduced: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose version 2, f1 0.6, is champion and whose version 1, f1 0.5, is previous."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = Toy(reproduced).copy(tmp_path_factory.mktemp("with_champion") / "project")
        promoter = open_promoter(project, model, monkeypatch)
        skip_load_checks(monkeypatch)
        promoter.make(1, {"f1": 0.5})
        promoter.promote()
        accept(promoter.project, "both")
        promoter.make(2, {"f1": 0.6})
        assert promoter.promote().result == "champion"
    return project.root


@pytest.fixture
def promoter(with_champion: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Promoter:
    return open_promoter(Toy(with_champion).copy(tmp_path / "promoter"), model, monkeypatch)


def aliases(promoter: Promoter) -> Aliases:
    """The versions with the aliases `candidate`, `champion` and `previous`."""
    versions = Registry(connect(promoter.project)).model(MODEL).aliases
    return versions.get("candidate"), versions.get("champion"), versions.get("previous")


def results(promoter: Promoter) -> dict[str, str]:
    """The tag `gate.result` of each version."""
    return {
        number: promoter.client.get_model_version(MODEL, number).tags["gate.result"] for number in promoter.versions()
    }


def without_metric(promoter: Promoter) -> None:
    promoter.make(3, {"other": 0.9})


def champion_tag(name: str, value: str) -> Callable[[Promoter], None]:
    def act(promoter: Promoter) -> None:
        promoter.client.set_model_version_tag(MODEL, "2", name, value)
        promoter.make(3, {"f1": 0.9})

    return act


def not_a_number(promoter: Promoter) -> None:
    promoter.make(3, {"f1": 0.9})
    path = promoter.root / "results/both"
    shutil.rmtree(path)
    with publishing(path, "evaluation") as folder:
        (folder / "metrics.json").write_text('{"f1": NaN}')


def no_champion(promoter: Promoter) -> None:
    promoter.client.delete_registered_model_alias(MODEL, "champion")
    promoter.make(3, {"f1": 0.9})


TRIALS: dict[str, tuple[Callable[[Promoter], None], str]] = {
    "better": (lambda promoter: promoter.make(3, {"f1": 0.7}), "f1 ↑ 0.700 vs 0.600 (+0.1, margin 0.01) better"),
    "worse": (lambda promoter: promoter.make(3, {"f1": 0.5}), "f1 ↑ 0.500 vs 0.600 (-0.1, margin 0.01) worse"),
    "equal": (lambda promoter: promoter.make(3, {"f1": 0.6}), "(+0, margin 0.01) within the margin"),
    "better by the margin": (lambda promoter: promoter.make(3, {"f1": 0.61}), "(+0.01, margin 0.01) within the margin"),
    "missing metric": (without_metric, "f1 is not in the evaluation of both. Remove it, or choose from: other"),
    "missing metric of the champion": (
        champion_tag(METRICS_TAG, '{"f2": 1}'),
        "champion's metric f1 must be a finite number",
    ),
    "metrics of the champion are not JSON": (champion_tag(METRICS_TAG, '{"f1": 0.'), "metrics cannot be read"),
    "a bool": (champion_tag(METRICS_TAG, '{"f1": false}'), "champion's metric f1 must be a finite number"),
    "a string": (champion_tag(METRICS_TAG, '{"f1": "0.1"}'), "champion's metric f1 must be a finite number"),
    "NaN": (not_a_number, "f1 is not in the evaluation of both"),
    "other evaluation sets": (champion_tag(EVALUATION_TAG, "other"), "measured on other data or settings"),
    "no champion": (no_champion, "there is no champion to compare with"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str, promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch)
    act, reason = TRIALS[name]
    act(promoter)
    decision = promoter.promote()
    assert reason in decision.reason
    assert promoter.client.get_model_version(MODEL, "3").tags["gate.reason"] == decision.reason
    if name == "better":
        assert decision.result == "champion" and aliases(promoter) == ("3", "3", "2")
        assert results(promoter) == {"1": "previous", "2": "previous", "3": "champion"}
    else:
        assert decision.result == "candidate"
        assert aliases(promoter) == ("3", None if name == "no champion" else "2", "1")
    assert not pending(promoter.project, promoter.measured())


def test_trial_unreadable_champion(promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch, unreadable="2")
    promoter.make(3, {"f1": 0.9})
    decision = promoter.promote()
    assert "champion version 2 no longer loads (it does not load)" in decision.reason
    assert decision.result == "candidate" and aliases(promoter) == ("3", "2", "1")
    skip_load_checks(monkeypatch)  # restoring its files is enough for the gate to compare again
    assert pending(promoter.project, promoter.measured()) == ["both"]
    assert promoter.promote().result == "champion" and aliases(promoter) == ("3", "3", "2")


def test_a_champion_that_does_not_load_stays_champion_and_the_reason_names_the_rollback(
    promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_load_checks(monkeypatch, unreadable="2")
    promoter.client.set_model_version_tag(MODEL, "2", "gate.key", "outdated")
    decision = promoter.promote()
    assert "it is the champion, but it does not load; `cclm promote --rollback both` restores" in decision.reason
    assert aliases(promoter) == ("2", "2", "1") and results(promoter)["2"] == "champion"


def test_trial_broken_candidate(promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch)
    monkeypatch.setattr(promotion, "load_check", load_check)
    promoter.make(3, {"f1": 0.9}, broken=True)
    decision = promoter.promote()
    assert decision.result == "broken" and "does not load and predict" in decision.reason
    assert aliases(promoter) == ("3", "2", "1")


def test_trial_registry_error(promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch)
    promoter.make(3, {"f1": 0.9})
    with sqlite3.connect(promoter.root / "mlflow.db") as database:
        database.execute("ALTER TABLE registered_model_aliases RENAME TO away")
    with pytest.raises(TrackingError, match="registered_model_aliases"):
        promoter.promote()
    with sqlite3.connect(promoter.root / "mlflow.db") as database:
        database.execute("ALTER TABLE away RENAME TO registered_model_aliases")
    assert aliases(promoter)[1:] == ("2", "1")
    assert promoter.promote().result == "champion"


def test_trial_results_of_another_composition(promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch)
    promoter.make(3, {"f1": 0.9})
    with publishing(promoter.root / "results/both", "evaluation") as folder:
        write_json(folder / "metrics.json", {"f1": 0.9})
        write_json(folder / "evaluation.json", {"composition": "outdated"})
    decision = promoter.promote()
    assert decision.result == "candidate" and "results belong to another composition" in decision.reason


def test_a_champion_that_changes_during_the_comparison_is_not_replaced(
    promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_load_checks(monkeypatch)

    def roll_back_meanwhile(uri: str, _tracking: str) -> Verdict:
        if uri.endswith("/2"):  # the champion is checked last, when the candidate has won
            promoter.client.set_registered_model_alias(MODEL, "champion", "1")
        return Verdict(True, "")

    monkeypatch.setattr(promotion, "load_check", roll_back_meanwhile)
    promoter.make(3, {"f1": 0.9})
    decision = promoter.promote()
    assert decision.result == "candidate" and "the champion changed during the comparison" in decision.reason
    assert aliases(promoter) == ("3", "1", "1") and pending(promoter.project, promoter.measured()) == ["both"]


def test_a_champion_whose_alias_was_moved_manually_is_not_promoted_again(
    promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_load_checks(monkeypatch)
    promoter.client.set_registered_model_alias(MODEL, "champion", "1")
    decision = promoter.promote()
    assert decision.result == "rolled back" and "was moved to version 1 outside the gate" in decision.reason
    assert aliases(promoter)[1] == "1"


# For each write to the registry, a process is killed right before it.


def _run_until_write(action: str, root: Path, model: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        promoter = open_promoter(Toy(root), model, monkeypatch)
        skip_load_checks(monkeypatch)
        client = connect(Toy(root)).client
        writes = iter(range(100))
        for name in ("set_registered_model_alias", "set_registered_model_tag", "set_model_version_tag"):
            _count(client, name, number, writes)
        for name in ("delete_registered_model_alias", "delete_registered_model_tag", "delete_model_version_tag"):
            _count(client, name, number, writes)
        _act(action, promoter)


def _count(client: MlflowClient, name: str, number: int, writes: Iterator[int]) -> None:
    write = getattr(client, name)

    def counted(*arguments: str) -> None:
        if next(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*arguments)

    setattr(client, name, counted)


def _act(action: str, promoter: Promoter) -> None:
    if action == "promote":
        promoter.promote()
    elif action == "accept":
        accept(promoter.project, "both")
    elif action == "retire":
        version = Registry(connect(promoter.project)).version(MODEL, "2")
        if DIGEST_TAG in version.tags:  # the doctor finds damaged versions by this tag
            retire(promoter.project, connect(promoter.project), version, "its files are missing")
    else:
        roll_back(promoter.project, "both", "it was bad")


ENDS: dict[str, tuple[Aliases, dict[str, str]]] = {
    "promote": (("3", "3", "2"), {"1": "previous", "2": "previous", "3": "champion"}),
    "rollback": (("2", "1", None), {"1": "champion", "2": "rolled back"}),
    # The files in the project are intact, so they are registered again as version 3, which beats version 1.
    "retire": (("3", "3", "1"), {"1": "previous", "2": "broken", "3": "champion"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("action", ENDS)
def test_a_change_killed_before_any_write_is_finished_by_the_next_run(
    action: str, promoter: Promoter, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if action == "promote":
        skip_load_checks(monkeypatch)
        promoter.make(3, {"f1": 0.6})
        assert promoter.promote().result == "candidate"  # so that the killed processes only change the champion
        promoter.make(3, {"f1": 0.9})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "mlflow.tracking", "flows.gate.lineage"])
    killed = 0
    for number in range(100):
        root = tmp_path / f"killed-{number}"
        shutil.copytree(promoter.root, root)
        process = context.Process(target=_run_until_write, args=(action, root, model, number))
        process.start()
        process.join(600)
        if process.exitcode == 0:  # no more writes
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        recovered = open_promoter(Toy(root), model, monkeypatch)
        skip_load_checks(monkeypatch)
        assert aliases(recovered)[1] in ("1", "2", "3")
        if action in ("rollback", "retire"):
            _act(action, recovered)
        recovered.promote()
        assert (aliases(recovered), results(recovered)) == ENDS[action], number
        assert HANDOVER_TAG not in Registry(connect(Toy(root))).model(MODEL).tags
    assert killed >= 8
