"""Rollback restores the previous champion with one repeatable command, and the gate does not undo it."""

import json
import sys

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.gate.overrides import accept, roll_back
from flows.gate.promote import pending
from flows.gate.registry import Registry
from flows.tracking.client import connect
from tests.flows.test_gate_trials import MODEL, Promoter, aliases, promoter, results, skip_load_checks, with_champion

__all__ = ["promoter", "with_champion"]  # fixtures


def test_a_rollback_is_idempotent_and_not_undone_by_the_gate(
    promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_load_checks(monkeypatch)
    decision = roll_back(promoter.project, "both", "it swears")
    assert (decision.version, decision.result, decision.decided) == ("1", "champion", True)
    assert aliases(promoter) == ("2", "1", None) and results(promoter) == {"1": "champion", "2": "rolled back"}
    tags = promoter.client.get_model_version(MODEL, "2").tags
    assert tags["gate.reason"] == "rolled back to version 1: it swears"

    again = roll_back(promoter.project, "both", "another reason")
    assert (again.version, again.decided, again.reason) == ("1", False, "rolled back from version 2: it swears")
    assert aliases(promoter) == ("2", "1", None)

    # The next run evaluates the same files. They beat the champion, but stay rolled back.
    assert pending(promoter.project, promoter.measured()) == []
    next_run = promoter.promote()
    assert (next_run.version, next_run.result, next_run.decided) == ("2", "rolled back", False)
    assert "it swears" in next_run.reason
    assert aliases(promoter) == ("2", "1", None)

    # Other files pass the gate as usual, and `accept` overrides the rollback.
    promoter.make(3, {"f1": 0.9})
    assert promoter.promote().result == "champion" and aliases(promoter) == ("3", "3", "1")
    promoter.make(2, {"f1": 0.6})
    assert promoter.promote().result == "rolled back" and aliases(promoter) == ("2", "3", "1")
    assert accept(promoter.project, "both").result == "champion" and aliases(promoter) == ("2", "2", "3")


def test_a_rollback_that_is_not_possible_changes_nothing(promoter: Promoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch, unreadable="1")
    with pytest.raises(ConfigError, match="both version 1 cannot be champion: it does not load"):
        roll_back(promoter.project, "both", "a reason")
    assert aliases(promoter) == ("2", "2", "1") and results(promoter)["2"] == "champion"

    skip_load_checks(monkeypatch)
    Registry(connect(promoter.project)).set_alias(MODEL, "previous", None)
    with pytest.raises(ConfigError, match="cclm-both has no previous champion to roll back to: version 2"):
        roll_back(promoter.project, "both", "a reason")
    with pytest.raises(ConfigError, match="cclm-other has no champion to roll back"):
        roll_back(promoter.project, "other", "a reason")


@pytest.mark.slow
def test_the_command(promoter: Promoter) -> None:
    command = [sys.executable, "-m", "flows.cli", "promote", "--rollback", "both", "--reason", "it swears", "--json"]
    done = promoter.project.run(*command, CCLM_TRACKING="on")
    (decision,) = json.loads(done.stdout)
    assert decision["version"] == "1" and decision["reason"] == "rolled back from version 2: it swears"
    refused = promoter.project.run(*command, "--accept", "both", check=False, CCLM_TRACKING="on")
    assert refused.returncode == 2 and "must not be combined" in refused.stderr
