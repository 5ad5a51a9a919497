"""Retiring a damaged version changes the champion like promotion: under its lock, and with a handover."""

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from flows.gate.handover import HANDOVER_TAG
from flows.gate.integrity import BROKEN_TAG, find_damage, retire
from flows.gate.promote import promotion_lock
from flows.gate.registry import DIGEST_TAG, Registry
from flows.tracking.client import TrackingError, connect
from tests.flows.test_gate_trials import MODEL, aliases, promoter, results, with_champion  # noqa: F401 - fixtures
from tests.flows.test_promote import Promoter

REASON = "its files are missing"


def retired(promoter: Promoter, number: str) -> str:  # noqa: F811
    tracking = connect(promoter.project)
    return retire(promoter.project, tracking, Registry(tracking).version(MODEL, number), REASON)


def test_the_champion_falls_back_to_previous_by_a_handover(promoter: Promoter) -> None:  # noqa: F811
    assert aliases(promoter) == ("2", "2", "1")
    message = retired(promoter, "2")
    assert f"THE CHAMPION OF {MODEL} IS NOW version 1 AGAIN" in message and "removed the alias `candidate`" in message
    assert aliases(promoter) == (None, "1", None) and results(promoter) == {"1": "champion", "2": "broken"}
    tags = promoter.client.get_model_version(MODEL, "2").tags
    assert tags[BROKEN_TAG] == tags["gate.reason"] == REASON and DIGEST_TAG not in tags
    assert HANDOVER_TAG not in Registry(connect(promoter.project)).model(MODEL).tags


def test_without_a_previous_version_there_is_no_champion(promoter: Promoter) -> None:  # noqa: F811
    promoter.client.delete_registered_model_alias(MODEL, "previous")
    assert f"{MODEL} NOW HAS NO CHAMPION: there is no `previous` version" in retired(promoter, "2")
    assert aliases(promoter) == (None, None, None) and results(promoter)["2"] == "broken"


def test_a_damaged_previous_version_leaves_the_champion_alone(promoter: Promoter) -> None:  # noqa: F811
    assert "CHAMPION" not in retired(promoter, "1")
    assert aliases(promoter) == ("2", "2", None) and results(promoter) == {"1": "broken", "2": "champion"}
    tracking = connect(promoter.project)
    assert find_damage(tracking, Registry(tracking).version(MODEL, "1")) == REASON


def test_it_waits_for_a_promotion_in_progress(promoter: Promoter) -> None:  # noqa: F811
    repair = threading.Thread(target=retired, args=(promoter, "2"))
    with FileLock(promotion_lock(promoter.project)):
        repair.start()
        repair.join(1)
        assert repair.is_alive() and aliases(promoter) == ("2", "2", "1")
    repair.join(30)
    assert not repair.is_alive() and aliases(promoter) == (None, "1", None)


def test_an_unfinished_change_of_champion_is_finished_first(promoter: Promoter) -> None:  # noqa: F811
    """Another process was killed after its first write, with which version 1 becomes the champion."""
    record = '{"champion":"1","previous":null,"replaced":"2","tags":{"1":{"gate.result":"champion"}}}'
    promoter.client.set_registered_model_tag(MODEL, HANDOVER_TAG, record)
    assert "CHAMPION" not in retired(promoter, "2")  # version 2 is no longer the champion
    assert aliases(promoter) == (None, "1", None)


def test_an_invalid_change_of_champion_stops_it(promoter: Promoter) -> None:  # noqa: F811
    promoter.client.set_registered_model_tag(MODEL, HANDOVER_TAG, "invalid")
    with pytest.raises(TrackingError, match=HANDOVER_TAG):
        retired(promoter, "2")
    assert aliases(promoter) == ("2", "2", "1")


def test_damage_is_described_without_the_remedy_for_outputs_of_the_pipeline(promoter: Promoter) -> None:  # noqa: F811
    tracking = connect(promoter.project)  # finds the artifacts of the copied project
    location = tracking.client.get_model_version_download_uri(MODEL, "2").removeprefix("file://")
    path = Path(location) / "artifacts/both/number.json"
    assert path.is_relative_to(promoter.root)
    path.write_text("3")
    assert find_damage(tracking, Registry(tracking).version(MODEL, "2")) == f"its files are damaged: {path} is altered"
