"""The way back to the champion before: one command, which may be given twice, and which the gate does not undo."""

import json
import sys

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.gate.overrides import accept, roll_back
from flows.gate.promote import pending
from flows.gate.registry import Registry
from flows.tracking.client import connect
from tests.flows.test_gate_trials import MODEL, Shop, crowned, results, shop, standing, trusting

__all__ = ["crowned", "shop"]  # fixtures


def test_rolled_back_once_twice_and_not_promoted_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch)
    decision = roll_back(shop.project, "both", "it swears")
    assert (decision.version, decision.result, decision.decided) == ("1", "champion", True)
    assert standing(shop) == ("2", "1", None) and results(shop) == {"1": "champion", "2": "rolled back"}
    tags = shop.client.get_model_version(MODEL, "2").tags
    assert tags["gate.reason"] == "rolled back to version 1: it swears"

    again = roll_back(shop.project, "both", "another reason")
    assert (again.version, again.decided, again.reason) == ("1", False, "rolled back from version 2: it swears")
    assert standing(shop) == ("2", "1", None)

    # The next run measures the same files: they beat the champion, and stay what they are.
    assert pending(shop.project, shop.measured()) == []
    told = shop.promote()
    assert (told.version, told.result, told.decided) == ("2", "rolled back", False) and "it swears" in told.reason
    assert standing(shop) == ("2", "1", None)

    # Other files are judged as ever, and a person may change their mind.
    shop.make(3, {"f1": 0.9})
    assert shop.promote().result == "champion" and standing(shop) == ("3", "3", "1")
    shop.make(2, {"f1": 0.6})
    assert shop.promote().result == "rolled back" and standing(shop) == ("2", "3", "1")
    assert accept(shop.project, "both").result == "champion" and standing(shop) == ("2", "2", "3")


def test_what_cannot_be_rolled_back_is_refused_and_nothing_changes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, unreadable="1")
    with pytest.raises(ConfigError, match="both version 1 cannot be champion: it does not load"):
        roll_back(shop.project, "both", "by hand")
    assert standing(shop) == ("2", "2", "1") and results(shop)["2"] == "champion"

    trusting(monkeypatch)
    Registry(connect(shop.project)).set_alias(MODEL, "previous", None)
    with pytest.raises(ConfigError, match="both must have a previous champion to roll back to; version 2"):
        roll_back(shop.project, "both", "by hand")
    with pytest.raises(ConfigError, match="must have a champion to roll back from; cclm-other has none"):
        roll_back(shop.project, "other", "by hand")


@pytest.mark.slow
def test_the_command(shop: Shop) -> None:
    command = [sys.executable, "-m", "flows.cli", "promote", "--rollback", "both", "--reason", "it swears", "--json"]
    done = shop.project.run(*command, CCLM_TRACKING="on")
    (decision,) = json.loads(done.stdout)
    assert decision["version"] == "1" and decision["reason"] == "rolled back from version 2: it swears"
    refused = shop.project.run(*command, "--accept", "both", check=False, CCLM_TRACKING="on")
    assert refused.returncode == 2 and "must not be combined" in refused.stderr
