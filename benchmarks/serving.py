"""Compares `cclm serve`, with and without batching, with `mlflow models serve` on the same registered version.

    python benchmarks/serving.py [--seconds 8] [--rounds 3] [--clients 1,8,32] [--json]

Needs `wrk` (`apt-get install wrk`). Registers a composition of the default size with random weights in a temporary
project, starts the three servers, and sends texts of 20 to 100 characters, one per request, over connections that stay
open. The servers are measured in turn, so that all of them see the same machine; rows are medians of the rounds.

- `requests/N clients`: answered requests per second. The peer is `mlflow models serve`.
- `requests/N clients, no batching`: the same with `--batch-texts 1`.
- `p99/...`: the time in which 99 % of the requests were answered.
- `processor/...`: processor time of the server per request. On a machine that does other work, this is the figure to
  trust.
- `difference`: the largest difference between an embedding by `cclm serve` under load and one by `mlflow models serve`.
- `dropped`: requests without a good answer, of all servers and rounds.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rows import Row, options, show

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.artifacts import folder_digest
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import BaseConfig, ComponentConfig
from flows import environment
from flows.gate.registry import CHAMPION, DIGEST_TAG, Registry
from flows.project import Project
from flows.servers.guard import bound_socket
from flows.tracking.client import connect

TOKEN = "token-of-the-benchmark"
PARTS = ("masked_characters", "entities", "characters")
LINE = "shall i compare thee to a summers day thou art more lovely and more temperate rough winds do shake "
OURS, ALONE, PEER = "batching", "no batching", "mlflow models serve"
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}  # of wrk, in milliseconds


class Server(NamedTuple):
    """A running server."""

    name: str
    port: int
    path: str
    key: str  # of the texts in a request
    answer: str  # of the embeddings in an answer
    process: psutil.Process


class Load(NamedTuple):
    """What wrk has measured."""

    requests: float  # per second
    p99: float  # milliseconds
    processor: float  # milliseconds per request
    num_errors: int


def rows(seconds: int, rounds: int, clients: list[int], threads: int) -> list[Row]:
    """Measures the three servers."""
    if shutil.which("wrk") is None:
        sys.exit("wrk not found. Run `apt-get install wrk`.")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        register(root)
        servers = [stack.enter_context(started(root, name, threads)) for name in (OURS, ALONE, PEER)]
        embeddings = [embed(server, texts()) for server in servers]
        difference = max(float(np.abs(values - embeddings[-1]).max()) for values in embeddings)
        loads: dict[tuple[str, int], list[Load]] = {}
        for _ in range(rounds):
            for number in clients:
                for server in servers:
                    loads.setdefault((server.name, number), []).append(measured(root, server, number, seconds))
    made = [row for number in clients for row in _rows(loads, number)]
    num_errors = sum(load.num_errors for measurements in loads.values() for load in measurements)
    made.append(Row("difference", difference, "", "limit: 0.00001", difference / 1e-5, "lower"))
    made.append(Row("dropped", num_errors, "requests", "limit: 0", None, "lower"))
    return made


def _rows(loads: dict[tuple[str, int], list[Load]], number: int) -> Iterator[Row]:
    peer = [statistics.median(values) for values in zip(*loads[PEER, number], strict=True)]
    clients = f"{number} client{'s' if number > 1 else ''}"
    for name, suffix in ((OURS, ""), (ALONE, ", no batching")):
        requests, p99, processor, _ = [statistics.median(values) for values in zip(*loads[name, number], strict=True)]
        peer_text = f"{PEER}: {format_number(peer[0])} requests/s"
        yield Row(f"requests/{clients}{suffix}", requests, "requests/s", peer_text, requests / peer[0], "higher")
        peer_text = f"{PEER}: {format_number(peer[1])} ms"
        yield Row(f"p99/{clients}{suffix}", p99, "ms", peer_text, p99 / peer[1], "lower")
        peer_text = f"{PEER}: {format_number(peer[2])} ms"
        yield Row(f"processor/{clients}{suffix}", processor, "ms", peer_text, processor / peer[2], "lower")


def register(root: Path) -> None:
    """Registers a composition as the champion of `full` in a new project."""
    (root / "dvc.yaml").write_text("stages: {}\n")
    project = Project(root)
    with seeded_initialization(1):
        base = Embedder(Preprocessor().fit([LINE]), BaseConfig().embedder).eval()
        parts = [
            Component(ComponentCard.over(base, name, name, ComponentConfig(task={"objective": name}).encoder, False))
            for name in PARTS
        ]
        save(ComposedModel(base, parts, "full"), root / "compositions/full")
    tracking = connect(project)
    composition = root / "compositions/full"
    registry, tags = Registry(tracking), {DIGEST_TAG: folder_digest(composition)}
    version = registry.register(tracking.create_run("benchmark", {}), "cclm-full", composition, {"f1": 0.0}, tags)
    registry.set_alias("cclm-full", CHAMPION, version.number)


@contextmanager
def started(root: Path, name: str, threads: int) -> Iterator[Server]:
    """A server of the champion, until the block ends."""
    with bound_socket(0) as listener:
        port = int(listener.getsockname()[1])
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "CCLM_SERVE_TOKEN": TOKEN,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    if name == PEER:
        words = ["mlflow", "models", "serve", "-m", f"models:/cclm-full@{CHAMPION}", "-p", str(port)]
        words += ["--env-manager", "local"]
        names = ("/invocations", "inputs", "predictions")
    else:
        words = ["flows.cli", "serve", "full", "--port", str(port), "--refresh-seconds", "3600"]
        words += ["--batch-texts", "1"] if name == ALONE else []
        names = ("/embed", "texts", "embeddings")
    variables = environment.for_children(settings)
    with (root / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=root, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        server = Server(name, port, *names, psutil.Process(process.pid))
        try:
            wait_for(server, process, Path(log.name))
            yield server
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def wait_for(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until a server answers."""
    while True:
        if process.poll() is not None:
            sys.exit(f"{server.name} has ended:\n{log.read_text()[-2000:]}")
        try:
            embed(server, ["a"])
            return
        except OSError:
            time.sleep(0.5)


def embed(server: Server, values: list[str]) -> "np.ndarray[Any, Any]":
    """The embeddings of texts by a server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{server.path}", json.dumps({server.key: values}).encode(), headers()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)[server.answer])


def measured(root: Path, server: Server, clients: int, seconds: int) -> Load:
    """Puts load on a server with wrk."""
    bodies = ", ".join(f"[==[{json.dumps({server.key: [text]})}]==]" for text in texts())
    script = root / "load.lua"
    script.write_text(
        f"local bodies = {{{bodies}}}\nlocal number = 0\n"
        + "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers().items())
        + f'function request() number = number + 1\n  return wrk.format("POST", "{server.path}", nil, '
        "bodies[number % #bodies + 1])\nend\n"
    )
    before = processor_seconds(server.process)
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", str(script)]
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    used = processor_seconds(server.process) - before
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)([a-z]+)", done.stdout)
    number = re.search(r"(\d+) requests in", done.stdout)
    assert requests and p99 and number, done.stdout
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    num_errors = int(errors[1]) if errors else 0
    num_errors += sum(map(int, socket_errors.groups())) if socket_errors else 0
    return Load(float(requests[1]), float(p99[1]) * UNITS[p99[2]], 1000 * used / int(number[1]), num_errors)


def processor_seconds(process: psutil.Process) -> float:
    """The processor seconds of a process and those that it has started."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def texts() -> list[str]:
    """Texts of 20 to 100 characters, about as long as the requests of customers."""
    return [(2 * LINE)[start : start + 20 + start * 7 % 81] for start in range(81)]


def headers() -> dict[str, str]:
    """The headers of a request to any of the servers."""
    return {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of load per server and round (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--clients", default="1,8,32", help="numbers of clients (default: 1,8,32)")
    parser.add_argument("--threads", type=int, default=1, help="of a forward pass, in all servers (default: 1)")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.clients.split(",")]
    show("Serving", rows(arguments.seconds, arguments.rounds, numbers, arguments.threads), arguments.json)
