"""Two drivers, one result: what `dvc repro` makes, the flow makes, byte for byte; what is unchanged stays."""

import time
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

from flows.devices.slots import LIMIT
from flows.run.tables import overlaps
from flows.tracking.records import read_record
from tests.flows.conftest import Drive, Toy


def outcomes(summary: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in summary["stages"]}


def test_the_flow_and_bare_dvc_agree_and_devices_work_side_by_side(project: Toy, done: Toy, drive: Drive) -> None:
    project.params(lambda values: [one.update(seconds=1.5) for one in values["components"].values()])
    summary = drive(project, CCLM_DEVICE_SLOTS="2")
    assert set(outcomes(summary).values()) == {"ran"}
    assert overlaps(summary["stages"]) == ["train@a", "train@b"]
    assert project.digests() == done.digests()
    assert len(project.digests()) == 6  # five folders, and the metrics that DVC shows

    # The other driver finds nothing to do, and neither does this one.
    assert "Data and pipelines are up to date." in project.dvc("status").stdout
    before = time.time()
    again = drive(project)
    assert set(outcomes(again).values()) == {"unchanged"}
    assert all((found := read_record(project, name)) and found.started < before for name in outcomes(again))
    digests = {row["stage"]: row["digests"] for row in summary["stages"]}
    assert {row["stage"]: row["digests"] for row in again["stages"]} == digests


def test_with_one_slot_devices_take_turns(done: Toy, drive: Drive) -> None:
    done.params(lambda values: [one.update(seconds=1) for one in values["components"].values()])
    summary = drive(done, ["train"], CCLM_DEVICE_SLOTS="1")
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran", "train@b": "ran"}
    assert overlaps(summary["stages"]) == []


def test_one_changed_parameter_reruns_only_what_depends_on_it(done: Toy, drive: Drive) -> None:
    before = done.digests()
    done.params(lambda values: values["components"]["b"].update(width=7))
    assert outcomes(drive(done)) == {
        "make": "unchanged",
        "train@a": "unchanged",
        "train@b": "ran",
        "compose@both": "ran",
        "evaluate@both": "ran",
    }
    changed = {path for path, digest in done.digests().items() if digest != before[path]}
    assert changed == {"models/b", "compositions/both"}  # the toy's results depend on its quality alone


def test_what_is_missing_is_restored_without_running(done: Toy, drive: Drive) -> None:
    before = done.digests()
    (done.root / "models/a/content.json").unlink()
    summary = drive(done)
    assert outcomes(summary)["train@a"] == "restored"
    assert set(outcomes(summary).values()) == {"restored", "unchanged"}
    assert (done.root / "models/a/content.json").is_file() and done.digests() == before


def test_forcing_a_stage_runs_it_alone(done: Toy, drive: Drive) -> None:
    summary = drive(done, force=["compose"])
    assert outcomes(summary) == {name: "ran" if name == "compose@both" else "unchanged" for name in outcomes(summary)}


def test_checkpoints_go_once_the_result_is_on_record_and_a_forced_training_starts_anew(done: Toy, drive: Drive) -> None:
    training = {"width": 6, "seconds": 0.1, "steps": 4, "checkpoint_every": 2}
    done.params(lambda values: values["components"].update(a=training))
    checkpoints, journal = done.root / ".cclm/checkpoints/a", done.root / ".cclm/steps-a"
    done.dvc("repro", "train@a")
    assert any(checkpoints.iterdir()), "a stage does not know yet whether DVC will record it"
    assert outcomes(drive(done, ["train@a"])) == {"make": "unchanged", "train@a": "unchanged"}
    assert not checkpoints.exists()
    drive(done, ["train@a"], force=["train@a"])
    assert journal.read_text().split() == ["1", "2", "3", "4"] * 2 and not checkpoints.exists()


def test_a_failed_stage_stops_its_dependents_alone_and_the_next_run_goes_on(done: Toy, drive: Drive) -> None:
    done.params(lambda values: values["components"]["a"].update(width=8, fail=2))
    done.params(lambda values: values["components"]["b"].update(width=8))
    summary = drive(done)
    assert outcomes(summary) == {
        "make": "unchanged",
        "train@a": "failed",
        "train@b": "ran",
        "compose@both": "not run",
        "evaluate@both": "not run",
    }
    (failed,) = (row for row in summary["stages"] if row["outcome"] == "failed")
    assert failed["message"] == ("train@a failed with exit code 2:\nerror: the toy component a was told to fail")
    log = (done.root / ".cclm/logs/train@a.log").read_text()
    assert log.count("error: the toy component a was told to fail") == 1  # what the user must mend is not tried again

    done.params(lambda values: values["components"]["a"].pop("fail"))
    assert outcomes(drive(done)) == {
        "make": "unchanged",
        "train@a": "ran",
        "train@b": "unchanged",
        "compose@both": "ran",
        "evaluate@both": "ran",
    }


def test_a_crashed_training_is_tried_once_more(done: Toy, drive: Drive) -> None:
    (done.root / ".cclm/crash-a").touch()
    done.params(lambda values: values["components"]["a"].update(width=3))
    summary = drive(done, ["train@a"])
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran"}
    assert not (done.root / ".cclm/crash-a").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "together"), [(2, ["train@a", "train@b"]), (1, [])])
def test_the_servers_limit_counts_the_devices(done: Toy, drive: Drive, slots: int, together: list[str]) -> None:
    with get_client(sync_client=True) as client:
        change = GlobalConcurrencyLimitUpdate(limit=slots)
        client.update_global_concurrency_limit(LIMIT, change)
        done.params(lambda values: [one.update(seconds=2) for one in values["components"].values()])
        try:
            summary = drive(done, ["train"], CCLM_DEVICE_SLOTS="2")
        finally:
            client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=16))
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran", "train@b": "ran"}
    assert overlaps(summary["stages"]) == together
