"""Work in several threads or processes of one machine, with the results in the order of the tasks.

```
ordered_map   the window both share: a bounded number of tasks in flight, results in order
prefetch      threads: batches that are prepared while the model trains
process_map   processes: the blocks of a corpus
```

The number of worker processes is a property of the machine, not of the result: it comes from the environment variable
CCLM_WORKERS, otherwise it is the number of available cores, and no result may depend on it.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from cclm_core.runtime.errors import CclmError, ConfigError

Task = TypeVar("Task")
Result = TypeVar("Result")

VARIABLE = "CCLM_WORKERS"

_BATCHES_PER_THREAD = 4  # prepared or in preparation per thread
_BLOCKS_PER_PROCESS = 3  # one in work, one waiting for the worker, one waiting for an earlier result
_MIN_TASKS = 4  # starting a process takes as long as a few tasks: fewer tasks are done in this process


def num_workers() -> int:
    """The number of worker processes: CCLM_WORKERS, otherwise the number of cores that this process may use.

    Raises:
        ConfigError: CCLM_WORKERS is not a whole number of at least 1.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{VARIABLE} must be a whole number of at least 1, got {value!r}.")
    return int(value)


def ordered_map(
    pool: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], ahead: int
) -> Iterator[Result]:
    """Yields `function(task)` for every task, in the order of the tasks.

    An exception in `function` is raised where its result would have come.

    Args:
        pool: where `function` runs; the caller shuts it down.
        function: called once per task.
        tasks: taken as they are needed, so there may be any number of them.
        ahead: tasks in flight or finished, besides the one whose result is awaited; bounds the memory.

    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(ordered_map(pool, abs, [-3, 2, -1], ahead=2))
    [3, 2, 1]
    """
    pending: deque[Future[Result]] = deque()
    for task in tasks:
        pending.append(pool.submit(function, task))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@contextmanager
def prefetch(make: Callable[[int], Result], numbers: range, workers: int) -> Iterator[Iterator[Result]]:
    """Provides `make(number)` for each of `numbers`, in order, prepared in threads.

    Threads suffice for batches: preparing one takes a small part of a training step, and NumPy releases the GIL while
    it works on arrays. When the block is left, pending work is dropped and the threads have ended.

    Args:
        make: a function of the number alone, so that training can resume anywhere; called from several threads.
        numbers: which items; a resumed training starts with a later one.
        workers: number of threads; 0 makes each item when it is requested.

    Raises:
        ValueError: `workers` is negative.

    >>> with prefetch(lambda number: number * number, range(2, 5), workers=2) as items:
    ...     list(items)
    [4, 9, 16]
    """
    if workers < 0:
        raise ValueError(f"`workers` must be at least 0, got {workers}")
    if workers == 0:
        yield map(make, numbers)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    try:
        yield ordered_map(pool, make, numbers, workers * _BATCHES_PER_THREAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def process_map(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Iterator[Iterator[Result]]:
    """Provides `function(task)` for every task, in the order of the tasks, computed in worker processes.

    Memory does not grow with the number of tasks. The workers end with the block, or when this process dies.

    Args:
        function: pickled once per worker; importable by name, with its state if it is an object.
        tasks: picklable, as their results are; any number of them.
        workers: number of processes; 1 works in this process, None calls `num_workers`. With several, a script that
            calls this must be importable (`if __name__ == "__main__":`), as for `multiprocessing`.

    Raises:
        CclmError: a worker was killed, for example because memory ran out.
    """
    workers = num_workers() if workers is None else workers
    tasks = iter(tasks)
    first = list(islice(tasks, _MIN_TASKS))
    tasks = chain(first, tasks)
    if workers == 1 or len(first) < _MIN_TASKS:
        yield map(function, tasks)
        return
    # Not fork: a forked child may deadlock on locks that threads of torch, Arrow or the tokenizers hold.
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="cclm-") as folder:
        # Through a file, because multiprocessing hangs if a worker dies before it has read large `initargs`.
        state = Path(folder) / "function.pickle"
        state.write_bytes(pickle.dumps(function))
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(state,))
        try:
            yield ordered_map(pool, _call, tasks, workers * _BLOCKS_PER_PROCESS - 1)
        except BrokenProcessPool as error:
            raise CclmError(
                f"a worker process ended before its work was done: {error} If memory is short, set {VARIABLE} to a "
                "smaller number."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any]  # of a worker process: set once, so that its state is not sent with every task


def _start_worker(state: Path) -> None:
    global _function
    _function = pickle.loads(state.read_bytes())  # noqa: S301  written by the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent dies: the pool's queues stay open between the workers, so they would wait."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in worker processes only"
    parent.join()
    os._exit(1)


def _call(task: Any) -> Any:
    try:
        return _function(task)
    except CclmError:
        raise
    except Exception as error:  # noqa: BLE001  raised again in the parent; not every exception can be unpickled there
        details = traceback.format_exc()
        raise RuntimeError(f"{type(error).__name__} in a worker process: {error}\n{details}") from None
