"""Device slots are limited in number and released when a process dies (for a server: see `tests/faults`)."""

import doctest
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.devices import slots
from flows.devices.slots import LIMIT, ensure_limit, gpus, lease, num_slots
from flows.project import Project


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("count", [1, 2])
def test_at_most_as_many_stages_run_as_there_are_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("CCLM_DEVICE_SLOTS", str(count))
    active: list[int] = []
    maximum = 0

    def work() -> None:
        nonlocal maximum
        with lease(Project(tmp_path)) as slot:
            active.append(slot.number)
            maximum = max(maximum, len(active))
            time.sleep(0.3)
            active.remove(slot.number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maximum == count


def test_a_killed_process_releases_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCLM_DEVICE_SLOTS", "1")
    code = "import sys, time; from pathlib import Path; from flows.devices.slots import lease\n"
    code += "from flows.project import Project\n"
    code += "with lease(Project(Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    acquired = threading.Event()

    def acquire() -> None:
        with lease(Project(tmp_path)):
            acquired.set()

    thread = threading.Thread(target=acquire)
    thread.start()
    assert not acquired.wait(0.6)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert acquired.wait(5)
    thread.join()


def test_a_gpu_slot_makes_one_device_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    monkeypatch.delenv("CCLM_DEVICE_SLOTS", raising=False)
    assert gpus() == ["3", "GPU-abc"] and num_slots() == 2
    with lease(Project(tmp_path)) as first, lease(Project(tmp_path)) as second:
        assert first.environment == {"CUDA_VISIBLE_DEVICES": "3"}
        assert second.environment == {"CUDA_VISIBLE_DEVICES": "GPU-abc"}


def test_without_a_gpu_there_is_one_slot_per_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CCLM_DEVICE_SLOTS", raising=False)
    assert num_slots() >= 1
    with lease(Project(tmp_path)) as slot:
        assert slot.environment == {}


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
def test_an_invalid_number_of_slots_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CCLM_DEVICE_SLOTS", value)
    with pytest.raises(ConfigError, match="CCLM_DEVICE_SLOTS must be a positive integer"):
        num_slots()


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(slots)
    assert result.attempted > 0 and result.failed == 0


def test_the_limit_is_created_once_and_deleting_it_later_is_an_error(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client

    assert prefect_server
    monkeypatch.setattr(slots, "LIMIT", "cclm-devices-test")
    monkeypatch.setenv("CCLM_DEVICE_SLOTS", "3")
    assert LIMIT in (ensure_limit() or "").replace("cclm-devices-test", LIMIT)
    assert ensure_limit() is None
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name("cclm-devices-test").limit == 3
        with lease(Project(tmp_path)) as slot:
            assert slot.number == 0
            assert client.read_global_concurrency_limit_by_name("cclm-devices-test").active_slots == 1
        client.delete_global_concurrency_limit_by_name("cclm-devices-test")
    with (
        pytest.raises(ConfigError, match="the global concurrency limit cclm-devices-test was not found"),
        lease(Project(tmp_path)),
    ):
        raise AssertionError
