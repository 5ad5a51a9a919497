"""The models of a service: where they come from, which version is served, and how a newer one replaces it."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cclm_core.runtime.errors import CclmError, ConfigError
from flows.messages import warn
from flows.service.batching import Batcher
from flows.service.config import ServiceConfig
from flows.service.metrics import Metrics
from flows.service.predictors import Predictor, check

CHAMPION = "champion"


class SourceUnavailableError(Exception):
    """A source cannot be read right now; later it may be."""


class Source(Protocol):
    """Where a model comes from."""

    @property
    def name(self) -> str:
        """The name of the model, such as `full`."""
        ...

    @property
    def alias(self) -> str | None:
        """The alias of its version in the registry; None if it comes from a folder."""
        ...

    def latest(self) -> str:
        """The version that should be served now.

        Raises:
            CclmError: no version has the alias.
            SourceUnavailableError: the source cannot be read right now.
        """
        ...

    def load(self, version: str) -> Predictor:
        """Loads a version, after its files were checked.

        Raises:
            CclmError: it is not valid.
            SourceUnavailableError: the source cannot be read right now.
        """
        ...


def key_of(source: Source) -> str:
    """The name by which requests can ask for a model: `NAME@ALIAS`, or `NAME` for one from a folder."""
    return f"{source.name}@{source.alias}" if source.alias else source.name


@dataclass(frozen=True)
class Loaded:
    """A version that is served."""

    version: str
    predictor: Predictor
    batcher: Batcher
    since: float


class ServedModel:
    """A model of a service, whose version can change.

    Attributes:
        key: its name, with the alias if it has one: `full@champion`.
        current: the version that is served.
        problem: why the newest version is not served; "" if it is.
    """

    def __init__(self, source: Source, config: ServiceConfig, metrics: Metrics) -> None:
        self.source, self._config, self._metrics = source, config, metrics
        self.key = key_of(source)
        self.problem, self._failed = "", ("", "")  # a version that is not valid, and why
        self.current = self._loaded(source.latest())
        self._metrics.queue.labels(self.key).set_function(lambda: self.current.batcher.num_waiting)
        self._metrics.stale.labels(self.key).set(0)
        self._announce(self.current)

    def refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        """Loads the newest version if it is not the one that is served, tries it, and puts it in place.

        If anything about it fails, the current version stays. A version that is not valid is not tried again.

        Args:
            loop: the loop that answers requests. The version changes in it, between two requests.
        """
        try:
            version = self.source.latest()
            if version == self._failed[0]:
                self._report(self._failed[1])
                return
            if version != self.current.version:
                loop.call_soon_threadsafe(self._replace, self._loaded(version))
            self._report("")
        except SourceUnavailableError as error:
            self._report(f"the newest version is not known: {error}")
        except CclmError as error:
            self._report(str(error))

    def close(self) -> None:
        """Ends the thread of the model, after the requests in its queue."""
        self.current.batcher.close()

    def join(self, seconds: float) -> None:
        """Waits for the thread, at most some seconds."""
        self.current.batcher.join(seconds)

    def _loaded(self, version: str) -> Loaded:
        try:
            predictor = self.source.load(version)
            check(predictor)
        except SourceUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a version must not stop the service
            if isinstance(error, CclmError):
                reason = str(error)
            else:
                traceback.print_exc()
                reason = f"it fails with {type(error).__name__}. The output of the server has the traceback."
            self._failed = version, f"{self.key} version {version} is not served: {reason}"
            self._metrics.loads.labels(self.key, "failed").inc()
            raise ConfigError(self._failed[1]) from None
        self._metrics.loads.labels(self.key, "loaded").inc()
        return Loaded(version, predictor, Batcher(predictor, self._config, self._observe, self.key), time.time())

    def _replace(self, new: Loaded) -> None:
        """Runs in the loop, so no request is between choosing a version and its queue."""
        old, self.current = self.current, new
        old.batcher.close()
        if old.version != new.version:
            self._metrics.model.remove(self.key, old.version, old.predictor.digest)
        self._announce(new)
        print(f"{self.key}: version {new.version} replaces version {old.version}", file=sys.stderr, flush=True)

    def _announce(self, loaded: Loaded) -> None:
        self._metrics.model.labels(self.key, loaded.version, loaded.predictor.digest).set(1)

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            warn(problem)
        self.problem = problem
        self._metrics.stale.labels(self.key).set(bool(problem))

    def _observe(self, num_requests: int, num_texts: int, num_characters: int, seconds: float) -> None:
        self._metrics.batch_requests.labels(self.key).observe(num_requests)
        self._metrics.batch_texts.labels(self.key).observe(num_texts)
        self._metrics.batch_seconds.labels(self.key).observe(seconds)
        self._metrics.texts.labels(self.key).inc(num_texts)
        self._metrics.characters.labels(self.key).inc(num_characters)


class UnknownModelError(Exception):
    """A request names no model, or one that is not served."""


class Models:
    """All models of a service.

    Args:
        sources: at least one; keys must differ.
        config: of the service.
        metrics: of the service.

    Raises:
        ConfigError: a model cannot be loaded, or is given twice.
        SourceUnavailableError: a source cannot be read.
    """

    def __init__(self, sources: Iterable[Source], config: ServiceConfig, metrics: Metrics) -> None:
        self._config, self._stop = config, threading.Event()
        by_key = {}
        for source in sources:
            if (key := key_of(source)) in by_key:
                raise ConfigError(f"models must differ, got {key} twice. Remove one, or rename its folder.")
            by_key[key] = source
        self.by_key = {key: ServedModel(source, config, metrics) for key, source in by_key.items()}

    @property
    def problems(self) -> list[str]:
        """Why models are not served in their newest version; empty if all are."""
        return [model.problem for model in self.by_key.values() if model.problem]

    def get(self, name: str | None) -> ServedModel:
        """The model that a request asks for.

        Args:
            name: `NAME@ALIAS`; `NAME` for the only version of a model, or for its champion; None for the only model.

        Raises:
            UnknownModelError: there is no such model, or several.
        """
        keys = list(self.by_key)
        if name is None:
            if len(keys) > 1:
                raise UnknownModelError(f"`model` must name one of {', '.join(keys)}.")
            return self.by_key[keys[0]]
        matching = [key for key in keys if key.partition("@")[0] == name]
        key = matching[0] if len(matching) == 1 else name if name in keys else f"{name}@{CHAMPION}"
        if key not in self.by_key:
            raise UnknownModelError(f"`model` must be one of {', '.join(keys)}, got {name!r:.80}.")
        return self.by_key[key]

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts a thread that looks for newer versions, until `close`."""
        threading.Thread(target=self._watch, args=(loop,), name="versions", daemon=True).start()

    def close(self) -> None:
        """Ends all threads, after the requests in their queues."""
        self._stop.set()
        for model in self.by_key.values():
            model.close()
        for model in self.by_key.values():
            model.join(self._config.max_seconds)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(self._config.refresh_seconds):
            for model in self.by_key.values():
                if not self._stop.is_set():
                    model.refresh(loop)
