"""The flow and `dvc repro` produce identical files, and both leave unchanged stages alone."""

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


@pytest.mark.slow
def test_the_flow_and_bare_dvc_agree_and_devices_work_in_parallel(project: Toy, done: Toy, drive: Drive) -> None:
    project.params(lambda values: [component.update(seconds=5) for component in values["components"].values()])
    summary = drive(project, CCLM_DEVICE_SLOTS="2")
    assert set(outcomes(summary).values()) == {"ran"}
    assert overlaps(summary["stages"]) == ["train@a", "train@b"]
    assert project.digests() == done.digests()
    assert len(project.digests()) == 6  # five folders, and one metrics file

    # Afterwards, neither driver finds anything to do.
    assert "Data and pipelines are up to date." in project.dvc("status").stdout
    before = time.time()
    again = drive(project)
    assert set(outcomes(again).values()) == {"unchanged"}
    assert all((record := read_record(project, name)) and record.started < before for name in outcomes(again))
    digests = {row["stage"]: row["digests"] for row in summary["stages"]}
    assert {row["stage"]: row["digests"] for row in again["stages"]} == digests


@pytest.mark.slow
def test_with_one_slot_stages_train_one_after_the_other(done: Toy, drive: Drive) -> None:
    done.params(lambda values: [component.update(seconds=1) for component in values["components"].values()])
    summary = drive(done, ["train"], CCLM_DEVICE_SLOTS="1")
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran", "train@b": "ran"}
    assert overlaps(summary["stages"]) == []


def test_a_changed_parameter_reruns_only_its_dependents(done: Toy, drive: Drive) -> None:
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
    assert changed == {"models/b", "compositions/both"}  # the results of toy stages depend only on `quality`


def test_missing_outputs_are_restored_without_running(done: Toy, drive: Drive) -> None:
    before = done.digests()
    (done.root / "models/a/content.json").unlink()
    summary = drive(done)
    assert outcomes(summary)["train@a"] == "restored"
    assert set(outcomes(summary).values()) == {"restored", "unchanged"}
    assert (done.root / "models/a/content.json").is_file() and done.digests() == before


def test_forcing_a_stage_runs_it_alone(done: Toy, drive: Drive) -> None:
    summary = drive(done, force=["compose"])
    assert outcomes(summary) == {name: "ran" if name == "compose@both" else "unchanged" for name in outcomes(summary)}


def test_checkpoints_are_deleted_after_recording_and_forced_training_starts_over(done: Toy, drive: Drive) -> None:
    training = {"width": 6, "seconds": 0.1, "steps": 4, "checkpoint_every": 2}
    done.params(lambda values: values["components"].update(a=training))
    checkpoints, journal = done.root / ".cclm/checkpoints/a", done.root / ".cclm/steps-a"
    done.dvc("repro", "train@a")
    assert any(checkpoints.iterdir()), "a stage must keep its checkpoints until DVC has recorded the result"
    assert outcomes(drive(done, ["train@a"])) == {"make": "unchanged", "train@a": "unchanged"}
    assert not checkpoints.exists()
    drive(done, ["train@a"], force=["train@a"])
    assert journal.read_text().split() == ["1", "2", "3", "4"] * 2 and not checkpoints.exists()


def test_a_failed_stage_blocks_only_its_dependents_and_the_next_run_continues(done: Toy, drive: Drive) -> None:
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
    assert failed["message"] == (
        "train@a failed with exit code 2:\nerror: the toy component a failed on purpose\n"
        "The former outputs are kept: models/a."
    )
    log = (done.root / ".cclm/logs/train@a.log").read_text()
    # Errors that the user must fix are not retried.
    assert log.count("error: the toy component a failed on purpose") == 1

    done.params(lambda values: values["components"]["a"].pop("fail"))
    assert outcomes(drive(done)) == {
        "make": "unchanged",
        "train@a": "ran",
        "train@b": "unchanged",
        "compose@both": "ran",
        "evaluate@both": "ran",
    }


def test_a_crashed_training_is_retried_once(done: Toy, drive: Drive) -> None:
    (done.root / ".cclm/crash-a").touch()
    done.params(lambda values: values["components"]["a"].update(width=3))
    summary = drive(done, ["train@a"])
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran"}
    assert not (done.root / ".cclm/crash-a").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "parallel"), [(2, ["train@a", "train@b"]), (1, [])])
def test_the_servers_limit_counts_the_devices(done: Toy, drive: Drive, slots: int, parallel: list[str]) -> None:
    with get_client(sync_client=True) as client:
        change = GlobalConcurrencyLimitUpdate(limit=slots)
        client.update_global_concurrency_limit(LIMIT, change)
        # So long that two processes that start together overlap, even on a busy machine.
        seconds = 30 if parallel else 2
        done.params(lambda values: [component.update(seconds=seconds) for component in values["components"].values()])
        try:
            summary = drive(done, ["train"], CCLM_DEVICE_SLOTS="2")
        finally:
            client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=16))
    assert outcomes(summary) == {"make": "unchanged", "train@a": "ran", "train@b": "ran"}
    assert overlaps(summary["stages"]) == parallel
