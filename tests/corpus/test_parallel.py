"""Threads and processes: results in the order of the tasks, errors at their task, nothing left running."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cclm_core.corpus.parallel import num_workers, ordered_map, prefetch, process_map
from cclm_core.runtime.errors import CclmError, ConfigError, DataError


def square(number: int) -> tuple[int, int]:
    time.sleep(0.02 if number % 5 == 0 else 0)  # so that results finish out of order
    return number**2, os.getpid()


class TwoArgumentsError(Exception):
    """Cannot be unpickled: the constructor needs more than the message."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{number} is {reason}")


def refuse_seven(number: int) -> int:
    if number == 7:
        raise DataError("number 7 must not come")
    if number == 8:
        raise TwoArgumentsError(8, "wrong")
    return number


def die(task: tuple[int, bytes]) -> bytes:
    if task[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return task[1]


def large(number: int) -> bytes:
    return bytes([number % 256]) * (3 << 20)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_are_in_the_order_of_the_tasks(workers: int) -> None:
    with process_map(square, range(50), workers) as results:
        numbers, processes = zip(*results, strict=True)
    assert list(numbers) == [number**2 for number in range(50)]
    assert len(set(processes)) <= workers  # a worker that starts late can get no task
    assert (os.getpid() in processes) == (workers == 1)
    assert not children()


def test_fewer_than_four_tasks_run_in_this_process() -> None:
    with process_map(square, range(3), 2) as results:
        assert {process for _, process in results} == {os.getpid()}


def test_tasks_are_read_as_needed_and_can_be_large() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield large(number)

    with process_map(len, tasks(), 2) as results:
        assert next(results) == 3 << 20
        assert len(taken) < 12
        assert list(results) == [3 << 20] * 99


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_at_its_task(workers: int) -> None:
    seen: list[int] = []
    with (
        pytest.raises(DataError, match="number 7 must not come"),
        process_map(refuse_seven, range(20), workers) as results,
    ):
        for number in results:
            seen.append(number)
    assert seen == list(range(7))
    assert not children()


def test_any_error_arrives_with_its_message_and_traceback() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)TwoArgumentsError in a worker process: 8 is wrong.*in refuse_seven"),
        process_map(refuse_seven, [1, 2, 8, 3, 4], 2) as results,
    ):
        list(results)


@pytest.mark.parametrize("size", [1, 3 << 20])
def test_a_killed_worker_is_an_error_and_the_others_end(size: int) -> None:
    tasks = ((number, bytes(size)) for number in range(20))
    with (
        pytest.raises(CclmError, match=r"a worker process ended before its work was done.*set CCLM_WORKERS"),
        process_map(die, tasks, 2) as results,
    ):
        list(results)
    assert not children()


def test_an_error_in_the_consumer_ends_the_workers() -> None:
    with pytest.raises(KeyboardInterrupt), process_map(square, range(10**6), 2) as results:
        next(results)
        raise KeyboardInterrupt
    assert not children()


PARENT = """
import sys, time
from cclm_core.corpus.parallel import process_map
from tests.corpus.test_parallel import square
with process_map(square, range(10**6), 2) as results:
    for number, process in results:
        print(process, flush=True)
"""


UNGUARDED = """
from functools import partial
from cclm_core.corpus.parallel import process_map
with process_map(partial(int.__add__, 2**10_000_000), range(10**6), 2) as results:
    for number in results:
        raise SystemExit("worked")
"""


def test_workers_that_fail_to_start_are_an_error(tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"` cannot be imported by the workers; its function is large."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, str(tmp_path / "script.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert "a worker process ended before its work was done" in result.stderr


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
        with pytest.raises(ConfigError, match="CCLM_WORKERS must be a positive integer, got"):
            num_workers()


def test_ordered_map_keeps_the_order_and_bounds_the_tasks_in_flight() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(3) as pool:
        results = ordered_map(pool, square, tasks(), ahead=5)
        assert next(results)[0] == 0
        assert len(taken) == 6
        assert [number for number, _ in results] == [number**2 for number in range(1, 100)]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_prefetch_yields_items_in_order_from_any_start(workers: int) -> None:
    for first in (0, 5, 50, 51):
        with prefetch(lambda number: number**2, range(first, 51), workers) as items:
            assert list(items) == [number**2 for number in range(first, 51)]
    assert not threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_prefetch_computes_a_few_items_ahead_in_other_threads(workers: int) -> None:
    computed: list[tuple[int, threading.Thread]] = []
    with prefetch(lambda number: computed.append((number, threading.current_thread())), range(1000), workers) as items:
        next(items)
    assert {thread for _, thread in computed} and threading.main_thread() not in {thread for _, thread in computed}
    assert len(computed) <= 4 * workers + 1


class WrongError(Exception):
    pass


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("error", [WrongError, KeyboardInterrupt])
def test_an_exception_in_the_consumer_ends_the_threads(workers: int, error: type[BaseException]) -> None:
    with pytest.raises(error), prefetch(lambda number: number, range(100), workers) as items:
        for item in items:
            if item == 7:
                raise error
    assert not threads()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_exception_in_make_is_raised_at_its_item(workers: int) -> None:
    def make(number: int) -> int:
        if number == 3:
            raise WrongError("number 3")
        return number

    seen: list[int] = []
    with pytest.raises(WrongError, match="number 3"), prefetch(make, range(10), workers) as items:
        for item in items:
            seen.append(item)
    assert seen == [0, 1, 2]
    assert not threads()


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="`workers` must be at least 0, got -1"), prefetch(int, range(2), -1):
        pass
