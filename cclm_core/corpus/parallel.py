"""Work on several processes of one machine, its results in the order of its tasks.

The number of workers belongs to where something runs, not to what it makes: it comes from the environment variable
CCLM_WORKERS, else it is the number of cores that this process may use, and no result may depend on it.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from cclm_core.runtime.errors import CclmError, ConfigError

Task = TypeVar("Task")
Result = TypeVar("Result")

VARIABLE = "CCLM_WORKERS"

# Starting a process takes as long as a few tasks; work that is no longer is done here.
_WORTH_STARTING = 4
# Tasks that a worker holds (one that it works on, one that waits), and results that wait for an earlier one.
_HELD = 2
_AHEAD = 3

_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from cclm_core.corpus.parallel import serve
serve(int(sys.argv[1]))
"""


def num_workers() -> int:
    """How many processes to use: CCLM_WORKERS, else the cores that this process may use.

    Raises:
        ConfigError: CCLM_WORKERS is no whole number of at least 1.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"{VARIABLE} must be a whole number of at least 1, got {given!r}.")
    return int(given)


@contextmanager
def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Iterator[Iterator[Result]]:
    """Gives `function(task)` for every task, in the order of the tasks.

    An exception in `function` is raised where its result would have come. Tasks are taken as they are needed, and at
    most three results a worker wait, so memory does not grow with their number. The workers end with the block, and
    by themselves when this process dies.

    Args:
        function: importable by name, with its state if it is an object; tasks and results can be pickled.
        tasks: any number of them.
        workers: processes; 1 works in this one, None asks `num_workers`.

    Raises:
        CclmError: a worker was killed, e.g. for want of memory.
    """
    workers = num_workers() if workers is None else workers
    tasks = iter(tasks)
    first = list(islice(tasks, _WORTH_STARTING))
    if workers == 1 or len(first) < _WORTH_STARTING:
        yield map(function, chain(first, tasks))
        return
    pool = [_Worker(function) for _ in range(workers)]
    try:
        yield _results(pool, chain(first, tasks))
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """One process at the other end of a pipe."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.connection, other = Pipe()
        command = [sys.executable, "-c", _CHILD, str(other.fileno()), json.dumps(sys.path)]
        # One thread each: the processes are what is parallel.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, pass_fds=[other.fileno()], env=environment)
        other.close()
        self.num_held = 0
        self.connection.send(function)

    def take(self, number: int, task: Any) -> None:
        try:
            self.connection.send((number, task))
        except ConnectionError:
            raise self._lost() from None
        self.num_held += 1

    def receive(self) -> tuple[int, bool, Any]:
        try:
            answer: tuple[int, bool, Any] = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._lost() from None
        self.num_held -= 1
        return answer

    def _lost(self) -> CclmError:
        code = self._process.wait()
        return CclmError(
            f"a worker process must live until its work is done, but one ended with code {code}; if memory is short, "
            f"set {VARIABLE} to a smaller number."
        )

    def end(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.wait()


def _results(pool: list[_Worker], tasks: Iterator[Any]) -> Iterator[Any]:
    ready: dict[int, tuple[bool, Any]] = {}
    num_given = num_yielded = 0
    more = True
    while more or num_yielded < num_given:
        while more and num_given - num_yielded < _AHEAD * len(pool):
            worker = min(pool, key=lambda worker: worker.num_held)
            if worker.num_held == _HELD:
                break
            for task in islice(tasks, 1):
                worker.take(num_given, task)
                num_given += 1
                break
            else:
                more = False
        if num_yielded in ready:
            done, result = ready.pop(num_yielded)
            num_yielded += 1
            if not done:
                raise result
            yield result
            continue
        busy = {worker.connection: worker for worker in pool if worker.num_held}
        for connection in wait(list(busy)) if busy else ():
            number, done, result = busy[connection].receive()  # type: ignore[index]
            ready[number] = (done, result)


def serve(descriptor: int) -> None:
    """The life of a worker: one function, then tasks, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    connection: Connection[Any, Any] = Connection(descriptor)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        # In a thread, so that a task can be handed over while another is worked on.
        try:
            while True:
                waiting.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    function = waiting.get()
    while True:
        number, task = waiting.get()
        try:
            answer: tuple[int, bool, Any] = (number, True, function(task))
        except CclmError as error:
            answer = (number, False, error)
        except Exception as error:  # noqa: BLE001  it is raised again in the process that gave the task
            told = RuntimeError(f"{type(error).__name__} in a worker process: {error}\n{traceback.format_exc()}")
            answer = (number, False, told)
        try:
            connection.send(answer)
        except ConnectionError:
            os._exit(0)
