"""Batches that are made ahead of their use, in threads: the same ones in the same order, however many threads.

Threads are enough: making a batch takes a small part of the time of a training step, and NumPy lets others run while
it works on arrays.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

_AHEAD = 4  # items that are ready or under way for each thread: what is held in memory


@contextmanager
def made_ahead(make: Callable[[int], Item], numbers: range, workers: int) -> Iterator[Iterator[Item]]:
    """Gives `make(number)` for every one of `numbers`, in their order.

    An exception in `make` is raised where its item would have come. When the block is left, by whatever exception,
    work that has not begun is dropped and the threads have ended.

    Args:
        make: a function of the number alone, so that a training resumes at any of them; it may be called from several
            threads at once.
        numbers: which items; a resumed training begins with a later one.
        workers: threads; 0 makes each item when it is asked for.

    >>> with made_ahead(lambda number: number * number, range(2, 5), workers=2) as items:
    ...     list(items)
    [4, 9, 16]
    """
    if workers < 0:
        raise ValueError(f"`workers` must be at least 0, got {workers}")
    if workers == 0:
        yield map(make, numbers)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        yield _in_order(pool, make, numbers, workers * _AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, make: Callable[[int], Item], numbers: range, ahead: int) -> Iterator[Item]:
    waiting: deque[Future[Item]] = deque()
    for number in numbers:
        waiting.append(pool.submit(make, number))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
