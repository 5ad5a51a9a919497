"""Servers that are restarted or away, and workers that are killed."""

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
from flows.devices.slots import LEASE_SECONDS, LIMIT
from flows.tracking.open_runs import open_runs
from tests.faults.pipeline import TRAIN, Pipeline
from tests.flows.conftest import BIN
from tests.flows.test_stage import wait_for
from tests.infra.test_stack import free_port

REPOSITORY = Path(__file__).parents[2]
PREFECT = str(BIN / "prefect")
SECONDS_TO_START = 600  # it takes ten on a quiet machine, minutes beside other work


class Server:
    """A server of its own process group on a free port, with its files in `folder`."""

    def __init__(self, folder: Path, words: list[str], health: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.words = [*words, "--host", "127.0.0.1", "--port", str(self.port)]
        self.health = f"http://127.0.0.1:{self.port}{health}"
        folder.mkdir()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        known |= environment.DEFAULTS | {"PREFECT_HOME": str(self.folder), "PATH": f"{BIN}:{os.environ['PATH']}"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words, cwd=self.folder, env=known, stdout=log, stderr=log, start_new_session=True
            )
        assert wait_for(self.answers, SECONDS_TO_START), (self.folder / "server.log").read_text()

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL for it and all of its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL


@contextmanager
def prefect_server(folder: Path) -> Iterator[Server]:
    """Prefect's server, for the block."""
    server = Server(folder, [PREFECT, "server", "start"], "/api/health")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def mlflow_server(folder: Path) -> Iterator["Line"]:
    """MLflow's server for the block, behind a line that can be cut."""
    store = ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    words = [str(BIN / "mlflow"), "server", *store, "--artifacts-destination", str(folder / "artifacts")]
    server = Server(folder, words, "/health")
    try:
        server.start()
        line = Line(server.port)
        try:
            yield line
        finally:
            line.cut()
    finally:
        server.kill()


class Line:
    """Passes connections on to a port, until it is cut: by hand, or when a client's request has the words `cut_at`."""

    def __init__(self, port: int) -> None:
        self.target, self.port, self.cut_at = port, free_port(), b""
        self.was_cut = threading.Event()
        self.ends: set[socket.socket] = set()
        self.mend()

    @property
    def url(self) -> str:
        """Where clients find the server."""
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Lets clients connect."""
        self.was_cut.clear()
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends all connections; no client gets another one."""
        self.was_cut.set()
        for end in (self.listener, *list(self.ends)):
            with suppress(OSError):  # the other side was quicker
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
            threading.Thread(target=self._pass, args=(client, server, self.cut_at), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, b""), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, cut_at: bytes) -> None:
        try:
            while data := source.recv(65536):
                if cut_at and cut_at in data:
                    self.cut()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def restarted(pipeline: Pipeline) -> None:
    """Prefect's server dies in mid-run and comes back."""
    with prefect_server(pipeline.folder / "prefect") as server:
        pipeline.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{server.port}/api"
        run = pipeline.start(*TRAIN)
        server.kill()
        assert not server.answers() and run.poll() is None
        server.start()
        pipeline.release()
        assert run.wait(240) in (0, 1), pipeline.told()
        pipeline.is_whole()
        pipeline.again()
        pipeline.until(lambda: slots_taken(pipeline) == 0, 3 * LEASE_SECONDS)
        pipeline.check()


def tracking_away(pipeline: Pipeline) -> None:
    """MLflow is away from the middle of a training on, and back for the next run."""
    with mlflow_server(pipeline.folder / "mlflow") as line:
        pipeline.environment["MLFLOW_TRACKING_URI"] = line.url
        run = pipeline.start(*TRAIN)
        line.cut()
        pipeline.release()
        assert run.wait(240) == 0, pipeline.told()
        assert "train@a is not tracked in MLflow" in pipeline.told() and open_runs(pipeline)
        line.mend()
        pipeline.again()
        pipeline.check()


def registry_away(pipeline: Pipeline) -> None:
    """MLflow goes away when the composition's version is to be made, and is back for the next run."""
    with mlflow_server(pipeline.folder / "mlflow") as line:
        pipeline.environment["MLFLOW_TRACKING_URI"] = line.url
        line.cut_at = b"model-versions/create"
        run = pipeline.start("run", held=False)
        assert run.wait(240) == 1 and line.was_cut.is_set(), pipeline.told()
        assert "the compositions are not registered in MLflow" in pipeline.told()
        line.cut_at = b""
        line.mend()
        (decision,) = pipeline.again("run")["promotion"]
        assert decision["created"] and decision["result"] == "candidate"
        assert len(MlflowClient(line.url).search_model_versions("name = 'cclm-both'")) == 1
        pipeline.check(whole_pipeline=True)


@contextmanager
def working(pipeline: Pipeline) -> Iterator[subprocess.Popen[bytes]]:
    """A server and a worker, which is at work on a run of the deployment: its training is held."""
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
                [PREFECT, "worker", "start", "--pool", "trials"],
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
            worker.wait(60)


def deploy(pipeline: Pipeline) -> None:
    """A work pool, and the flow as a deployment for it."""
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
    (one,) = (one for one in open_runs(pipeline) if one.kind == "driver")
    return psutil.Process(processes.split(one.process)[1])


def state_of(pipeline: Pipeline, run_id: str) -> str:
    """Where Prefect has a flow run."""
    answer = httpx.get(f"{pipeline.environment['PREFECT_API_URL']}/flow_runs/{run_id}", timeout=30)
    return str(answer.json()["state"]["type"])


def flow_run(pipeline: Pipeline) -> str:
    """The number of the flow run that is at work."""
    (one,) = (one for one in open_runs(pipeline) if one.kind == "prefect")
    return one.id


def slots_taken(pipeline: Pipeline) -> int:
    """The device slots that Prefect's server takes for leased."""
    answer = httpx.get(f"{pipeline.environment['PREFECT_API_URL']}/v2/concurrency_limits/{LIMIT}", timeout=30)
    return int(answer.json()["active_slots"])


def kill_worker(pipeline: Pipeline) -> None:
    """The worker is killed: what it has started goes on, and ends."""
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
    """The process of the flow run is killed: the worker says so to Prefect, and the next run goes on."""
    with working(pipeline) as worker:
        run_id, flow = flow_run(pipeline), driver(pipeline)
        flow.kill()
        assert wait_for(lambda: not flow.is_running())
        pipeline.release()
        pipeline.until(lambda: state_of(pipeline, run_id) == "CRASHED")
        assert worker.poll() is None
        pipeline.is_whole()
        pipeline.again()
        pipeline.until(lambda: slots_taken(pipeline) == 0, 3 * LEASE_SECONDS)  # the dead one's is given back
        pipeline.check()


TRIALS: dict[str, Callable[[Pipeline], None]] = {
    "Prefect's server restarted in mid-run": restarted,
    "SIGKILL of the worker": kill_worker,
    "SIGKILL of the flow run's process of a worker": kill_flow_run,
    "MLflow unreachable while a stage runs": tracking_away,
    "MLflow unreachable while a composition is registered": registry_away,
}
