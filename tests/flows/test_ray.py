"""The same flow on Ray: two nodes, each with room for one training, train side by side, and a third one waits."""

import json
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from flows.run.tables import overlaps
from tests.flows.conftest import Toy
from tests.flows.test_stage import wait_for


def test_an_unknown_runner_and_a_missing_extra_are_refused(done: Toy) -> None:
    told = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="rai")
    assert told.returncode == 2 and "CCLM_TASK_RUNNER must name a task runner, got 'rai'" in told.stderr
    (done.root / "prefect_ray.py").write_text("raise ImportError('it is not here')")
    told = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="ray")
    assert told.returncode == 2 and "Run `pip install 'cclm[ray]'`." in told.stderr


SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else Ray's workers give way to all else that this machine does
    "CUDA_VISIBLE_DEVICES": "",
}
NODES = {"cores": {"num_cpus": 1, "num_gpus": 0}, "GPUs": {"num_cpus": 2, "num_gpus": 1}}
TRAINING_SECONDS = 20  # Ray's workers start one after the other, which takes seconds each
STORE_BYTES = 80_000_000  # the least that Ray takes is 75 MiB


@pytest.fixture(params=NODES)
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a cluster of two nodes on this machine; their GPUs are numbers that Ray counts."""
    pytest.importorskip("prefect_ray", reason="needs the extra ray: pip install 'cclm[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        if "GPUs" in request.node.name:
            patch.delenv("CUDA_VISIBLE_DEVICES")  # else Ray holds the nodes to it
        from ray.cluster_utils import Cluster

        node = NODES[request.param] | {"object_store_memory": STORE_BYTES}
        nodes = Cluster(initialize_head=True, head_node_args=node)
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        try:
            yield str(nodes.address)
        finally:
            nodes.shutdown()


@pytest.mark.slow
def test_two_nodes_train_side_by_side_and_a_third_training_waits(
    project: Toy, done: Toy, cluster: str, prefect_server: str
) -> None:
    third = {"width": 3, "seconds": TRAINING_SECONDS}
    project.params(lambda values: [one.update(seconds=TRAINING_SECONDS) for one in values["components"].values()])
    project.params(lambda values: values["components"].update(c=third))
    told = project.run(
        *(sys.executable, "-m", "flows.cli", "run", "--json"),
        **SETTINGS,
        CCLM_TASK_RUNNER="ray",
        CCLM_DEVICE_SLOTS="1",  # Ray hands out the devices instead
        RAY_ADDRESS=cluster,
        PREFECT_API_URL=prefect_server,
    )
    stages = {row["stage"]: row for row in json.loads(told.stdout[told.stdout.index("{\n") :])["stages"]}
    assert {row["outcome"] for row in stages.values()} == {"ran"}
    first, second, last = sorted((stages[f"train@{name}"] for name in "abc"), key=lambda row: float(row["started"]))
    assert overlaps([first, second]) and last["started"] >= min(first["ended"], second["ended"])
    made = project.digests()
    assert made.pop("models/c") and made == done.digests()  # whoever drives them, and with however many


@pytest.mark.slow
def test_without_a_server_a_local_cluster_does_it_and_a_killed_run_leaves_no_training(project: Toy) -> None:
    pytest.importorskip("prefect_ray", reason="needs the extra ray: pip install 'cclm[ray]'")
    project.environment.update(SETTINGS | {"CCLM_TASK_RUNNER": "ray"})
    project.params(lambda values: values["components"]["a"].update(seconds=120))
    command = [sys.executable, "-m", "flows.cli", "run"]
    run = subprocess.Popen(command, cwd=project.root, env=project.environment)
    try:
        assert wait_for(lambda: trainings(project, "a"), 240, every=0.5)
        run.kill()
        run.wait()
        assert wait_for(lambda: not trainings(project, "a"), 240, every=0.5)
    finally:
        run.kill()
        run.wait()
    project.params(lambda values: values["components"]["a"].update(seconds=0.5))
    assert json.loads(project.run(*command, "--json").stdout)["stages"][-1]["outcome"] == "ran"
    assert "up to date" in project.dvc("status").stdout


def trainings(project: Toy, name: str) -> list[psutil.Process]:
    """The processes that train a component of the project."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(project.root) and "toy_stages" in words and f"models/{name}" in words:
            found.append(process)
    return found
