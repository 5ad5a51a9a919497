"""Batches made ahead: the same in the same order with any number of threads, and no thread left behind."""

import threading

import pytest

from cclm_core.corpus.batches import made_ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_is_that_of_the_numbers_from_any_of_them_on(workers: int) -> None:
    for first in (0, 5, 50, 51):
        with made_ahead(lambda number: number**2, range(first, 51), workers) as items:
            assert list(items) == [number**2 for number in range(first, 51)]
    assert not threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_items_are_made_in_other_threads_and_only_a_few_ahead(workers: int) -> None:
    made: list[tuple[int, threading.Thread]] = []
    with made_ahead(lambda number: made.append((number, threading.current_thread())), range(1000), workers) as items:
        next(items)
    assert {thread for _, thread in made} and threading.main_thread() not in {thread for _, thread in made}
    assert len(made) <= 4 * workers + 1


class WrongError(Exception):
    pass


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("error", [WrongError, KeyboardInterrupt])
def test_an_exception_in_the_consumer_ends_the_threads(workers: int, error: type[BaseException]) -> None:
    with pytest.raises(error), made_ahead(lambda number: number, range(100), workers) as items:
        for item in items:
            if item == 7:
                raise error
    assert not threads()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_exception_in_the_making_is_raised_in_its_place(workers: int) -> None:
    def make(number: int) -> int:
        if number == 3:
            raise WrongError("number 3")
        return number

    seen: list[int] = []
    with pytest.raises(WrongError, match="number 3"), made_ahead(make, range(10), workers) as items:
        for item in items:
            seen.append(item)
    assert seen == [0, 1, 2]
    assert not threads()


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="`workers` must be at least 0, got -1"), made_ahead(int, range(2), -1):
        pass
