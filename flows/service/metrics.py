"""What `GET /metrics` reports, for Prometheus."""

import time
from collections.abc import Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flows.servers.guard import App, Receive, Scope, Send

ROUTES = ("/predict", "/embed", "/models", "/health", "/metrics", "/docs", "/openapi.json")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one service, in a registry of their own.

    Labels have few values: unknown paths count as `other`, so that a scanner cannot fill the memory.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            """A counter of this registry."""
            return Counter(f"cclm_{name}", about, labels, registry=self.registry)

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            """A gauge of this registry."""
            return Gauge(f"cclm_{name}", about, labels, registry=self.registry)

        def histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            """A histogram of this registry."""
            return Histogram(f"cclm_{name}", about, labels, buckets=buckets, registry=self.registry)

        self.requests = counter("requests", "Answered requests.", "route", "status")
        self.seconds = histogram("request_seconds", "Seconds until a request was answered.", _SECONDS, "route")
        self.in_flight = gauge("requests_in_flight", "Requests that are being answered.")
        self.texts = counter("texts", "Texts that models have read; a pair counts once.", "model")
        self.characters = counter("characters", "Characters that models have read.", "model")
        self.queue = gauge("queue_requests", "Requests that wait for a model.", "model")
        self.batch_requests = histogram("batch_requests", "Requests per batch.", _COUNTS, "model")
        self.batch_texts = histogram("batch_texts", "Texts per batch.", _COUNTS, "model")
        self.batch_seconds = histogram("batch_seconds", "Seconds per batch.", _SECONDS, "model")
        self.model = gauge("model_info", "1 for the version that is served.", "model", "version", "digest")
        self.loads = counter("model_loads", "Versions that were loaded, or could not be loaded.", "model", "result")
        self.stale = gauge("model_stale", "1 if a newer version exists and could not be loaded.", "model")

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """An ASGI application in front of another one: counts requests by route and status, and measures their seconds."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI defines it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in ROUTES else "other"
        status = "none"  # the client has left before it was answered

        async def note(message: MutableMapping[str, Any]) -> None:
            """Remembers the status of the answer."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        started = time.perf_counter()
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, note)
        finally:
            self.metrics.in_flight.dec()
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)


BatchObserver = Callable[[int, int, int, float], None]
"""Called after each batch with its number of requests, texts and characters, and its seconds."""
