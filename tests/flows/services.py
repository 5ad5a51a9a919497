"""A real service in a thread of the test, and clients for it."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.finetuning.model import TaskCard, TaskModel
from cclm_core.finetuning.store import save_task
from cclm_core.heads.catalogue import default_head
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor
from flows.servers.guard import bound_socket
from flows.service.app import build
from flows.service.config import ServiceConfig
from flows.service.metrics import Metrics
from flows.service.models import Models, Source
from flows.service.predictors import Predictor, Text
from flows.service.sources import FolderSource
from flows.service.start import make_server

TOKEN = "a token for the tests"


def composition(seed: int = 1, name: str = "both", encoder: EncoderConfig | None = None) -> ComposedModel:
    """A composition of minimal size with random weights; its component has `encoder`."""
    own = HourglassConfig(core_width=16, num_layers=1, num_heads=1, width=16)
    shape = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=16), encoder=own)
    with seeded_initialization(seed):
        base = Embedder(Preprocessor().fit(["Give me excess of it"]), shape)
        card = ComponentCard.over(base, "a", "entities", encoder or own, False)
        return ComposedModel(base, [Component(card)], name).eval()


def saved(folder: Path, seed: int = 1) -> Path:
    """Publishes a composition at `folder`."""
    save(composition(seed), folder)
    return folder


def saved_task(folder: Path, task: LabeledTask, is_pair: bool = False) -> Path:
    """Publishes a model of a task with random weights at `folder`."""
    labels = () if task == "regress" else ("billing", "refund", "shipping")
    card = TaskCard(name=folder.name, task=task, labels=labels, is_pair=is_pair, head=default_head(task))
    encoder = composition()
    with seeded_initialization(2):
        head = card.head.build(card.context(encoder))
    save_task(TaskModel(card, encoder, head).eval(), folder)
    return folder


class Service:
    """A service that runs in a thread, as a context manager.

    Args:
        sources: folders, or other sources.
        token: what requests must send; None: nothing.
        settings: of `ServiceConfig`.
    """

    def __init__(self, sources: Sequence[Path | Source], token: str | None = None, **settings: Any) -> None:
        self.listener = bound_socket(0)
        self.port = int(self.listener.getsockname()[1])
        self.config = ServiceConfig(**{"port": self.port, "refresh_seconds": 0.05, **settings})
        self.metrics = Metrics()
        made = [FolderSource(source) if isinstance(source, Path) else source for source in sources]
        self.models = Models(made, self.config, self.metrics)
        self.server = make_server(build(self.models, self.config, self.metrics, token), self.config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    def connection(self, seconds: float = 60) -> "closing[http.client.HTTPConnection]":
        """A connection to the service."""
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds))

    def ask(self, path: str, value: Any = None, token: str | None = None, **headers: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; POST if there is a value, which can be the body itself."""
        with self.connection() as connection:
            return ask(connection, path, value, token, **headers)[:2]

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(f"cclm_{name}", labels)


def ask(
    connection: http.client.HTTPConnection, path: str, value: Any = None, token: str | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Asks on a connection that may stay open; returns the status, the JSON or text, and the headers."""
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    credentials = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request("GET" if body is None else "POST", path, body, credentials | headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    is_json = "json" in (answer.getheader("Content-Type") or "")
    return answer.status, json.loads(text) if is_json else text, dict(answer.getheaders())


def until(condition: Any, seconds: float = 60) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.01)


class Lengths:
    """A model that predicts the length of a text, or whether both texts of a pair are equal.

    It fails for the text `fail`, and waits at the text `wait` until `go_on` is set.
    """

    kind, digest, task, labels = "task", "0" * 64, "regress", ()

    def __init__(self, is_pair: bool = False, width: int = 2) -> None:
        self.is_pair, self.width, self.go_on, self.batches = is_pair, width, threading.Event(), list[list[Text]]()

    def predict(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """See the class."""
        self.batches.append(list(texts))
        if "wait" in texts:
            assert self.go_on.wait(60)
        if "fail" in texts:
            raise RuntimeError("a secret of the model")
        if "refuse" in texts:
            raise DataError("refuse is not a text.")
        return [{"value": len(text)} if isinstance(text, str) else {"equal": text[0] == text[1]} for text in texts]

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The length of each text, `width` times."""
        lengths = np.array([len(text) for text in texts], dtype=np.float32)
        return np.repeat(lengths[:, None], self.width, axis=1)


class Given:
    """A source with one version of one model."""

    def __init__(self, predictor: Predictor, name: str = "lengths", alias: str | None = None) -> None:
        self.predictor, self.name, self.alias = predictor, name, alias

    def latest(self) -> str:
        """See `Source.latest`."""
        return "1"

    def load(self, version: str) -> Predictor:
        """See `Source.load`."""
        assert version == "1"
        return self.predictor
