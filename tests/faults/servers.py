"""Restarted and unreachable servers, killed workers."""

import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import yaml
from mlflow.tracking import MlflowClient

from flows import environment, processes
from flows.devices.slots import LIMIT
from flows.tracking.open_runs import open_runs
from tests.faults.pipeline import SECONDS, TRAIN, Pipeline
from tests.flows.conftest import BIN, INTERRUPTIBLE
from tests.flows.test_stage import wait_for
from tests.infra.test_stack import free_port

REPOSITORY = Path(__file__).parents[2]
PREFECT = str(BIN / "prefect")


class Server:
    """A server in its own process group on a free port, with its files in `folder`."""

    def __init__(self, folder: Path, words: list[str], health: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.words = [*words, "--host", "127.0.0.1", "--port", str(self.port)]
        self.health = f"http://127.0.0.1:{self.port}{health}"
        folder.mkdir()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        variables |= environment.DEFAULTS | {"PREFECT_HOME": str(self.folder), "PATH": f"{BIN}:{os.environ['PATH']}"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words, cwd=self.folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        assert wait_for(self.answers, SECONDS), (self.folder / "server.log").read_text()

    def answers(self) -> bool:
        """Whether the server responds to its health check."""
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Kills all processes of the server."""
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL


@contextmanager
def prefect_server(folder: Path) -> Iterator[Server]:
    """Prefect's server for the block."""
    server = Server(folder, [PREFECT, "server", "start"], "/api/health")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def mlflow_server(folder: Path) -> Iterator["Proxy"]:
    """MLflow's server for the block, behind a proxy that can be disconnected."""
    store = ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    words = [str(BIN / "mlflow"), "server", *store, "--artifacts-destination", str(folder / "artifacts")]
    server = Server(folder, words, "/health")
    try:
        server.start()
        proxy = Proxy(server.port)
        try:
            yield proxy
        finally:
            proxy.disconnect()
    finally:
        server.kill()


class Proxy:
    """Forwards connections to a port until it is disconnected, or until a client's request contains `trigger`."""

    def __init__(self, port: int) -> None:
        self.target, self.port, self.trigger = port, free_port(), b""
        self.is_disconnected = threading.Event()
        self.ends: set[socket.socket] = set()
        self.connect()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> None:
        """Accepts clients, for the first time or again."""
        self.is_disconnected.clear()
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def disconnect(self) -> None:
        """Closes all connections and accepts no more."""
        self.is_disconnected.set()
        for end in (self.listener, *list(self.ends)):
            with suppress(OSError):  # the other side has closed it
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.ends |= {client, server}
            threading.Thread(target=self._pass, args=(client, server, self.trigger), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, b""), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, trigger: bytes) -> None:
        try:
            while data := source.recv(65536):
                if trigger and trigger in data:
                    self.disconnect()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def restarted(pipeline: Pipeline) -> None:
    """Prefect's server is killed and restarted during a run."""
    with prefect_server(pipeline.folder / "prefect") as server:
        pipeline.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{server.port}/api"
        run = pipeline.start(*TRAIN)
        server.kill()
        assert not server.answers() and run.poll() is None
        server.start()
        pipeline.release()
        assert run.wait(SECONDS) in (0, 1), pipeline.output()
        pipeline.is_whole()
        pipeline.again()
        pipeline.until(lambda: slots_taken(pipeline) == 0)
        pipeline.check()


def tracking_away(pipeline: Pipeline) -> None:
    """MLflow becomes unreachable during a training and is back for the next run."""
    with mlflow_server(pipeline.folder / "mlflow") as proxy:
        pipeline.environment["MLFLOW_TRACKING_URI"] = proxy.url
        run = pipeline.start(*TRAIN)
        proxy.disconnect()
        pipeline.release()
        assert run.wait(SECONDS) == 0, pipeline.output()
        assert "train@a is not tracked in MLflow" in pipeline.output() and open_runs(pipeline)
        proxy.connect()
        pipeline.again()
        pipeline.check()


def registry_away(pipeline: Pipeline) -> None:
    """MLflow becomes unreachable at the creation of a model version and is back for the next run."""
    with mlflow_server(pipeline.folder / "mlflow") as proxy:
        pipeline.environment["MLFLOW_TRACKING_URI"] = proxy.url
        proxy.trigger = b"model-versions/create"
        run = pipeline.start("run", held=False)
        assert run.wait(SECONDS) == 1 and proxy.is_disconnected.is_set(), pipeline.output()
        assert "the compositions and tasks are not registered in MLflow" in pipeline.output()
        proxy.trigger = b""
        proxy.connect()
        (decision,) = pipeline.again("run")["promotion"]
        assert decision["created"] and decision["result"] == "candidate"
        assert len(MlflowClient(proxy.url).search_model_versions("name = 'cclm-both'")) == 1
        pipeline.check(whole_pipeline=True)


@contextmanager
def working(pipeline: Pipeline) -> Iterator[subprocess.Popen[bytes]]:
    """A Prefect server and a worker with a run of the deployment, whose training is paused."""
    with prefect_server(pipeline.folder / "prefect") as server:
        pipeline.environment.update(
            {
                "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api",
                "PREFECT_HOME": str(pipeline.folder / "client"),
                **environment.DEFAULTS,
            }
        )
        deploy(pipeline)
        pipeline.hold()
        with (pipeline.folder / "run.log").open("wb") as log:
            worker = subprocess.Popen(
                [*INTERRUPTIBLE, PREFECT, "worker", "start", "--pool", "trials"],
                cwd=pipeline.folder,
                env=pipeline.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            pipeline.run(PREFECT, "deployment", "run", "pretrain/trial")
            pipeline.until(lambda: pipeline.is_held() and pipeline.is_tracked())
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(SECONDS)
            finally:
                worker.kill()


def deploy(pipeline: Pipeline) -> None:
    """Creates a work pool and deploys the flow to it."""
    names = ("TOY_MODEL", "DVC_SITE_CACHE_DIR")
    variables = {name: pipeline.environment[name] for name in names} | {"PYTHONPATH": str(REPOSITORY)}
    deployment = {
        "name": "trial",
        "entrypoint": f"{REPOSITORY}/flows/run/pipeline.py:pretrain",
        "parameters": {"targets": ["train@a"]},
        "work_pool": {"name": "trials", "job_variables": {"env": variables, "stream_output": False}},
    }
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(pipeline.root)}}
    file = pipeline.folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({"pull": [step], "deployments": [deployment]}))
    pipeline.run(PREFECT, "--no-prompt", "work-pool", "create", "--type", "process", "trials")
    pipeline.run(PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(file))


def driver(pipeline: Pipeline) -> psutil.Process:
    """The process of the flow run."""
    (run,) = (run for run in open_runs(pipeline) if run.kind == "driver")
    return psutil.Process(processes.split(run.process)[1])


def state_of(pipeline: Pipeline, run_id: str) -> str:
    """The state of a flow run in Prefect."""
    response = httpx.get(f"{pipeline.environment['PREFECT_API_URL']}/flow_runs/{run_id}", timeout=SECONDS)
    return str(response.json()["state"]["type"])


def flow_run(pipeline: Pipeline) -> str:
    """The id of the open flow run."""
    (run,) = (run for run in open_runs(pipeline) if run.kind == "prefect")
    return run.id


def slots_taken(pipeline: Pipeline) -> int:
    """The number of device slots that are leased on Prefect's server."""
    response = httpx.get(f"{pipeline.environment['PREFECT_API_URL']}/v2/concurrency_limits/{LIMIT}", timeout=SECONDS)
    return int(response.json()["active_slots"])


def kill_worker(pipeline: Pipeline) -> None:
    """The worker is killed: its flow run continues and completes."""
    with working(pipeline) as worker:
        run_id, flow = flow_run(pipeline), driver(pipeline)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL and flow.is_running()
        pipeline.release()
        pipeline.until(lambda: state_of(pipeline, run_id) == "COMPLETED")
        pipeline.until(lambda: not flow.is_running())
        pipeline.is_whole()
        pipeline.again()
        pipeline.check()


def kill_flow_run(pipeline: Pipeline) -> None:
    """The process of the flow run is killed: the worker reports the crash to Prefect, and the next run resumes."""
    with working(pipeline) as worker:
        run_id, flow = flow_run(pipeline), driver(pipeline)
        flow.kill()
        assert wait_for(lambda: not flow.is_running())
        pipeline.release()
        pipeline.until(lambda: state_of(pipeline, run_id) == "CRASHED")
        assert worker.poll() is None
        pipeline.is_whole()
        pipeline.again()
        pipeline.until(lambda: slots_taken(pipeline) == 0)  # the lease of the killed process ends
        pipeline.check()


TRIALS: dict[str, Callable[[Pipeline], None]] = {
    "Prefect's server restarted during a run": restarted,
    "SIGKILL of the worker": kill_worker,
    "SIGKILL of a worker's flow run": kill_flow_run,
    "MLflow unreachable while a stage runs": tracking_away,
    "MLflow unreachable while a composition is registered": registry_away,
}
