"""Requests that share a batch get the answers that they get alone; a full queue, a slow model, a failing neighbor."""

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.service.batching import Batcher, QueueFullError
from flows.service.config import ServiceConfig
from tests.flows.services import Given, Lengths, Service, ask, saved, until


def together(service: Service, path: str, requests: list[list[Any]]) -> list[tuple[int, Any]]:
    """The answers to requests that are sent at the same time, each by its own client."""
    start = threading.Barrier(len(requests))

    def send(texts: list[Any]) -> tuple[int, Any]:
        """Waits for all the others, then sends."""
        with service.connection() as connection:
            connection.connect()
            start.wait(30)
            return ask(connection, path, {"texts": texts})[:2]

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


@contextmanager
def waiting(service: Service, model: Lengths, *texts: str) -> Iterator[Callable[[], tuple[int, Any]]]:
    """Sends texts in a thread; yields a function that returns the answer. `wait` keeps the model busy meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(service.ask, "/predict", {"texts": list(texts)})
        try:
            yield future.result
        finally:
            model.go_on.set()


def test_answers_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    requests = [["Give me excess"[: index % 14], "of it " * (index * index)][: index % 3] for index in range(24)]
    with Service([saved(tmp_path / "full")], batch_milliseconds=50) as service:
        joined = together(service, "/embed", requests)
        num_batches = service.metric("batch_requests_count", model="full") or 0
        assert 1 <= num_batches < 24 == service.metric("batch_requests_sum", model="full")
        alone = [service.ask("/embed", {"texts": texts}) for texts in requests]
        assert service.metric("batch_requests_count", model="full") == num_batches + 24
    for texts, (status, answer), (_, expected) in zip(requests, joined, alone, strict=True):
        assert status == 200 and len(answer["embeddings"]) == len(texts)
        if texts:
            np.testing.assert_allclose(answer["embeddings"], expected["embeddings"], atol=1e-6)


def test_a_batch_has_the_configured_size() -> None:
    model = Lengths()
    with Service([Given(model)], batch_texts=3, batch_milliseconds=200) as service, waiting(service, model, "wait"):
        until(lambda: ["wait"] in model.batches)
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(service.ask, "/predict", {"texts": ["a" * n]}) for n in range(1, 7)]
            until(lambda: service.metric("queue_requests", model="lengths") == 6)
            model.go_on.set()
            assert [answer.result()[1]["predictions"] for answer in answers] == [[{"value": n}] for n in range(1, 7)]
    assert [len(batch) for batch in model.batches[-2:]] == [3, 3]


def test_one_text_per_batch_switches_batching_off() -> None:
    model = Lengths()
    with Service([Given(model)], batch_texts=1, batch_milliseconds=50) as service:
        together(service, "/predict", [["a"], ["bb"], ["c", "d"]])
    assert sorted(model.batches[-3:]) == [["a"], ["bb"], ["c", "d"]]


def test_a_failing_request_does_not_fail_its_neighbors() -> None:
    model = Lengths()
    with Service([Given(model)], batch_milliseconds=200) as service:
        answers = together(service, "/predict", [["a"], ["fail"], ["bb"], ["refuse"]])
        assert [status for status, _ in answers] == [200, 500, 200, 400]
        assert answers[2][1]["predictions"] == [{"value": 2}]
        assert not any("secret" in str(answer) or "Traceback" in str(answer) for _, answer in answers)
    assert any(len(batch) > 1 and "fail" in batch for batch in model.batches)


def test_a_full_queue_is_503_with_retry_after_and_loses_nothing() -> None:
    model = Lengths()
    with (
        Service([Given(model)], max_queue=2, batch_texts=1) as service,
        waiting(service, model, "wait") as first,
        ThreadPoolExecutor(2) as pool,
    ):
        until(lambda: ["wait"] in model.batches)
        queued = [pool.submit(service.ask, "/predict", {"texts": ["ab"]}) for _ in range(2)]
        until(lambda: service.metric("queue_requests", model="lengths") == 2)
        with service.connection() as connection:
            status, answer, headers = ask(connection, "/predict", {"texts": ["a"]})
            assert status == 503 and headers["retry-after"] == "1"
            assert answer["error"].startswith("2 requests wait for this model")
            assert ask(connection, "/health")[0] == 200  # the loop answers while the model is busy
        model.go_on.set()
        assert first()[0] == 200
        assert [answer.result()[1]["predictions"] for answer in queued] == [[{"value": 2}]] * 2


def test_a_request_that_takes_too_long_is_503_and_is_not_computed_later() -> None:
    model = Lengths()
    with Service([Given(model)], max_seconds=0.2, batch_texts=1) as service, waiting(service, model, "wait") as first:
        until(lambda: ["wait"] in model.batches)
        status, answer = service.ask("/predict", {"texts": ["too late"]})
        assert status == 503 and answer["error"].startswith("no answer within 0.2 s")
        assert first()[0] == 503
        model.go_on.set()
        assert service.ask("/predict", {"texts": ["in time"]})[0] == 200
    assert ["too late"] not in model.batches and ["in time"] in model.batches


def test_the_request_of_a_client_that_has_left_is_not_computed() -> None:
    model = Lengths()
    with Service([Given(model)], batch_texts=1) as service, waiting(service, model, "wait") as first:
        until(lambda: ["wait"] in model.batches)
        client = http.client.HTTPConnection("127.0.0.1", service.port)
        client.request("POST", "/predict", b'{"texts": ["gone"]}')
        until(lambda: service.metric("queue_requests", model="lengths") == 1)
        client.close()
        until(lambda: service.metric("requests_total", route="/predict", status="none") == 1)
        model.go_on.set()
        assert first()[0] == 200 and service.ask("/predict", {"texts": ["here"]})[0] == 200
    assert ["gone"] not in model.batches


def test_a_closed_batcher_computes_what_waits() -> None:
    async def close_with_work() -> list[Any]:
        """Submits three requests, closes, and collects the answers."""
        model = Lengths()
        batcher = Batcher(model, ServiceConfig(batch_texts=1, max_queue=2), lambda *_: None, "test")
        answers = [batcher.submit("predict", ["wait"])]
        while not model.batches:
            await asyncio.sleep(0.01)
        answers += [batcher.submit("predict", ["a"]), batcher.submit("embed", ["bb"])]
        with pytest.raises(QueueFullError, match="2 requests wait"):
            batcher.submit("predict", ["c"])
        batcher.close()
        model.go_on.set()
        values = [await answer for answer in answers]
        await asyncio.to_thread(batcher.join, 30)
        assert not batcher.is_alive
        return values

    started = time.monotonic()
    first, second, third = asyncio.run(close_with_work())
    assert first == [{"value": 4}] and second == [{"value": 1}] and third.tolist() == [[2.0, 2.0]]
    assert time.monotonic() - started < 30
