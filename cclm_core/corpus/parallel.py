"""Parallel work on one machine, with results in the order of the tasks.

```
prefetch      threads: prepares batches while the model trains
process_map   processes: processes the blocks of a corpus
ordered_map   shared by both: a bounded number of tasks in flight
```

The environment variable CCLM_WORKERS sets the number of worker processes (default: the available cores). Results must
not depend on it.
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
from cclm_core.runtime.own_code import loaded_code

Task = TypeVar("Task")
Result = TypeVar("Result")

VARIABLE = "CCLM_WORKERS"

_BATCHES_PER_THREAD = 4  # ready or in preparation
_BLOCKS_PER_PROCESS = 3  # one in progress, one queued, one finished that waits for an earlier result
_MIN_TASKS = 4  # fewer tasks run in this process: starting a worker takes as long as a few tasks


def num_workers() -> int:
    """The number of worker processes: CCLM_WORKERS, otherwise the number of cores available to this process.

    Raises:
        ConfigError: CCLM_WORKERS is not a positive integer.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{VARIABLE} must be a positive integer, got {value!r}. Unset it to use all available cores.")
    return int(value)


def ordered_map(
    pool: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], ahead: int
) -> Iterator[Result]:
    """Yields `function(task)` for every task, in the order of the tasks.

    If `function` raises an exception, the iterator raises it at that task.

    Args:
        pool: runs `function`; the caller shuts it down.
        function: called once per task.
        tasks: any number of tasks, read only as needed.
        ahead: maximum number of tasks in flight or finished in addition to the next result; bounds the memory.

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
    """Yields an iterator over `make(number)` for each of `numbers`, in order, computed ahead in threads.

    Threads are enough for batches: preparing one takes a small part of a training step, and NumPy releases the GIL. On
    exit, pending work is canceled and the threads end.

    Args:
        make: called from several threads; must depend only on the number, so that training can resume anywhere.
        numbers: the numbers of the items, such as the remaining steps of a resumed training.
        workers: number of threads; 0 computes each item on request.

    Raises:
        ConfigError: `workers` is negative.

    >>> with prefetch(lambda number: number * number, range(2, 5), workers=2) as items:
    ...     list(items)
    [4, 9, 16]
    """
    if workers < 0:
        raise ConfigError(f"`workers` must be at least 0, got {workers}.")
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
    """Yields an iterator over `function(task)` for every task, in order, computed in worker processes.

    Memory does not grow with the number of tasks. The workers end on exit, or when this process dies.

    Args:
        function: picklable; sent once to each worker.
        tasks: any number of picklable tasks with picklable results.
        workers: number of processes; 1 runs everything in this process, None calls `num_workers`. With more than one,
            protect the calling script with `if __name__ == "__main__":`, as for `multiprocessing`.

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
    # Not fork: a forked child can deadlock on locks held by threads of torch, Arrow or tokenizers.
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="cclm-") as folder:
        # In a file, because multiprocessing hangs if a worker dies before it has read large `initargs`.
        state = Path(folder) / "function.pickle"
        # Your own code comes first: the function may hold objects of classes that it defines.
        state.write_bytes(pickle.dumps((loaded_code(), function)))
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(state,))
        try:
            yield ordered_map(pool, _call, tasks, workers * _BLOCKS_PER_PROCESS - 1)
        except BrokenProcessPool as error:
            raise CclmError(
                f"a worker process ended before its work was done: {error} If memory ran out, set {VARIABLE} to a "
                "smaller number."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any]  # set once per worker process, so that it is not sent with every task


def _start_worker(state: Path) -> None:
    global _function
    _, _function = pickle.loads(state.read_bytes())  # noqa: S301  written by the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent dies. Without this, workers wait forever on the pool's open queues."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in worker processes only"
    parent.join()
    os._exit(1)


def _call(task: Any) -> Any:
    try:
        return _function(task)
    except CclmError:
        raise
    except Exception as error:  # noqa: BLE001  raised again in the parent; not every exception can be unpickled
        details = traceback.format_exc()
        raise RuntimeError(f"{type(error).__name__} in a worker process: {error}\n{details}") from None
