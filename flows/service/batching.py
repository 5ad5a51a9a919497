"""Joins requests into batches and computes them, in one thread per model.

A batch is closed when it is full, or when its first request has waited for `batch_milliseconds`. While a batch is
computed, the next one fills up, so under load nobody waits for the clock.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from flows.service.config import ServiceConfig
from flows.service.metrics import BatchObserver
from flows.service.predictors import Predictor, Text, is_finite

Method = Literal["predict", "embed"]


class QueueFullError(Exception):
    """Too many requests wait for the model."""


@dataclass(frozen=True, eq=False)
class _Job:
    """A request that waits for its answer."""

    method: Method
    texts: Sequence[Text]
    answer: "asyncio.Future[Any]"
    num_characters: int
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue and the thread of one model.

    A second thread answers fewer requests on two cores (measured with 32 clients): batches get smaller, and the threads
    wait for each other at every short operation of the model.

    Args:
        predictor: the model. Only the thread calls it.
        config: sizes of the queue and of the batches.
        observe: is called after each batch, in the thread.
        name: of the thread.
    """

    def __init__(self, predictor: Predictor, config: ServiceConfig, observe: BatchObserver, name: str) -> None:
        self._predictor, self._config, self._observe = predictor, config, observe
        self._jobs: queue.Queue[_Job] = queue.Queue(config.max_queue)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests that are in no batch yet."""
        return self._jobs.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, method: Method, texts: Sequence[Text]) -> "asyncio.Future[Any]":
        """Puts a request into the queue, at once.

        A canceled future is not computed.

        Returns:
            For `predict`, a list of predictions; for `embed`, (N, W) float32. Whatever the model raises for these texts
            is raised by the future.

        Raises:
            QueueFullError: try again later.
        """
        assert not self._closed.is_set()
        job = _Job(method, texts, asyncio.get_running_loop().create_future(), sum(map(num_characters, texts)))
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise QueueFullError(f"{self._config.max_queue} requests wait for this model. Try again later.") from None
        return job.answer

    def close(self) -> None:
        """Ends the thread after all requests in the queue were computed. Returns at once; see `join`."""
        self._closed.set()

    def join(self, seconds: float) -> None:
        """Waits until the thread has ended, at most some seconds."""
        self._thread.join(seconds)

    def _work(self) -> None:
        job: _Job | None = None
        while (job := job or self._take(None)) is not None:
            batch, job = self._gathered(job)
            batch = [other for other in batch if not other.answer.cancelled()]
            for method in ("predict", "embed"):
                if jobs := [other for other in batch if other.method == method]:
                    self._compute(method, jobs)

    def _take(self, until: float | None) -> _Job | None:
        """The next request; None at the time `until`, or if the batcher is closed and empty."""
        while True:
            # A closed batcher gets no more requests. An open one looks at `_closed` twice a second.
            seconds = 0.5 if until is None else max(0.0, until - time.monotonic())
            try:
                return self._jobs.get(block=seconds > 0 and not self._closed.is_set(), timeout=seconds or None)
            except queue.Empty:
                if until is not None or self._closed.is_set():
                    return None

    def _gathered(self, job: _Job) -> tuple[list[_Job], _Job | None]:
        """A batch that starts with `job`, and a request that did not fit into it, if any."""
        batch, num_texts, size = [job], len(job.texts), job.num_characters
        until = job.arrived + self._config.batch_milliseconds / 1000
        while num_texts < self._config.batch_texts and size < self._config.batch_characters:
            other = self._take(until)
            if other is None:
                break
            num_texts, size = num_texts + len(other.texts), size + other.num_characters
            if num_texts > self._config.batch_texts or size > self._config.batch_characters:
                return batch, other
            batch.append(other)
        return batch, None

    def _compute(self, method: Method, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            answers: list[Any] = self._answers(method, jobs)
        except Exception as error:  # noqa: BLE001 - any error of a model is the answer to its request
            # One of the requests is the cause, and the others must not fail with it.
            answers = [error] if len(jobs) == 1 else [self._alone(method, job) for job in jobs]
        seconds = time.perf_counter() - started
        self._observe(len(jobs), sum(len(job.texts) for job in jobs), sum(job.num_characters for job in jobs), seconds)
        loop = jobs[0].answer.get_loop()
        try:
            loop.call_soon_threadsafe(_resolve, list(zip(jobs, answers, strict=True)))
        except RuntimeError:  # the loop has ended, and with it everybody who waits
            assert loop.is_closed()

    def _answers(self, method: Method, jobs: list[_Job]) -> list[Any]:
        texts = [text for job in jobs for text in job.texts]
        values = getattr(self._predictor, method)(texts)
        if len(values) != len(texts) or not is_finite(values):
            raise ValueError(f"the model must give {len(texts)} finite answers, got {len(values)}")
        ends = [0]
        for job in jobs:
            ends.append(ends[-1] + len(job.texts))
        return [values[start:end] for start, end in pairwise(ends)]

    def _alone(self, method: Method, job: _Job) -> Any:
        try:
            return self._answers(method, [job])[0]
        except Exception as error:  # noqa: BLE001 - see `_compute`
            return error


def num_characters(text: Text) -> int:
    """The characters of a text, or of both texts of a pair."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _resolve(answers: Iterable[tuple[_Job, Any]]) -> None:
    for job, answer in answers:
        if job.answer.done():  # canceled while it was computed
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
