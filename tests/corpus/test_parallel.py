"""Workers: results in the order of the tasks, errors in their place, nothing left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cclm_core.corpus.parallel import in_order, num_workers
from cclm_core.runtime.errors import CclmError, ConfigError, DataError


def square(number: int) -> tuple[int, int]:
    time.sleep(0.02 if number % 5 == 0 else 0)  # so that results are ready in another order
    return number**2, os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise DataError("number 7 must not come")
    if number == 8:
        raise KeyError("eight")
    return number


def die(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def large(number: int) -> bytes:
    return bytes([number % 256]) * (3 << 20)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "cclm_core.corpus.parallel" in " ".join(child.cmdline())]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    with in_order(square, range(50), workers) as results:
        numbers, processes = zip(*results, strict=True)
    assert list(numbers) == [number**2 for number in range(50)]
    assert len(set(processes)) == workers
    assert (os.getpid() in processes) == (workers == 1)
    assert not children()


def test_a_few_tasks_start_no_process() -> None:
    with in_order(square, range(3), 2) as results:
        assert {process for _, process in results} == {os.getpid()}


def test_tasks_are_taken_as_they_are_needed_and_may_be_large() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield large(number)

    with in_order(len, tasks(), 2) as results:
        assert next(results) == 3 << 20
        assert len(taken) < 12
        assert list(results) == [3 << 20] * 99


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_in_its_place(workers: int) -> None:
    seen: list[int] = []
    with (
        pytest.raises(DataError, match="number 7 must not come"),
        in_order(refuse_seven, range(20), workers) as results,
    ):
        for number in results:
            seen.append(number)
    assert seen == list(range(7))
    assert not children()


def test_an_error_that_is_a_fault_of_ours_names_where_it_was_raised() -> None:
    with (
        pytest.raises(RuntimeError, match="KeyError in a worker process: 'eight'"),
        in_order(refuse_seven, [1, 2, 8, 3, 4], 2) as results,
    ):
        list(results)


def test_a_worker_that_is_killed_is_named_and_the_others_end() -> None:
    with (
        pytest.raises(CclmError, match="ended with code -9; if memory is short, set CCLM_WORKERS"),
        in_order(die, range(20), 2) as results,
    ):
        list(results)
    assert not children()


PARENT = """
import sys, time
from cclm_core.corpus.parallel import in_order
from tests.corpus.test_parallel import square
with in_order(square, range(10**6), 2) as results:
    for number, process in results:
        print(process, flush=True)
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=root, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    workers = {int(parent.stdout.readline()) for _ in range(50)}
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 30
    while any(psutil.pid_exists(worker) for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_number_of_workers_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCLM_WORKERS", "3")
    assert num_workers() == 3
    monkeypatch.delenv("CCLM_WORKERS")
    assert num_workers() == len(os.sched_getaffinity(0))
    for wrong in ("0", "-1", "two"):
        monkeypatch.setenv("CCLM_WORKERS", wrong)
        with pytest.raises(ConfigError, match="CCLM_WORKERS must be a whole number of at least 1"):
            num_workers()
