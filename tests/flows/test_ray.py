"""The flow on Ray: two nodes with room for one training each train in parallel, and a third training waits."""

import json
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from flows.run.tables import overlaps
from tests.flows.conftest import Toy
from tests.flows.test_stage import wait_for


@pytest.mark.slow
def test_an_unknown_runner_and_a_missing_extra_are_refused(done: Toy) -> None:
    result = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="rai")
    assert result.returncode == 2 and "CCLM_TASK_RUNNER must be one of threads, ray, got 'rai'" in result.stderr
    (done.root / "prefect_ray.py").write_text("raise ImportError('not installed')")
    result = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="ray")
    assert result.returncode == 2 and "Run `pip install 'cclm-core[ray]'`." in result.stderr


SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # otherwise Ray's workers run with low priority
    "CUDA_VISIBLE_DEVICES": "",
}
NODES = {"cores": {"num_cpus": 1, "num_gpus": 0}, "GPUs": {"num_cpus": 2, "num_gpus": 1}}
TRAINING_SECONDS = 60  # longer than it takes to start Ray's workers one after the other
STORE_BYTES = 80_000_000  # Ray's minimum is 75 MiB


@pytest.fixture(params=NODES)
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a cluster with two nodes on this machine. Its GPUs are only numbers to Ray."""
    pytest.importorskip("prefect_ray", reason="needs the extra ray: pip install 'cclm-core[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        if "GPUs" in request.node.name:
            patch.delenv("CUDA_VISIBLE_DEVICES")  # otherwise Ray gives the nodes no GPUs
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
def test_two_nodes_train_in_parallel_and_a_third_training_waits(
    project: Toy, done: Toy, cluster: str, prefect_server: str
) -> None:
    third = {"width": 3, "seconds": TRAINING_SECONDS}
    project.params(
        lambda values: [component.update(seconds=TRAINING_SECONDS) for component in values["components"].values()]
    )
    project.params(lambda values: values["components"].update(c=third))
    result = project.run(
        *(sys.executable, "-m", "flows.cli", "run", "--json"),
        **SETTINGS,
        CCLM_TASK_RUNNER="ray",
        CCLM_DEVICE_SLOTS="1",  # ignored, because Ray assigns the devices
        RAY_ADDRESS=cluster,
        PREFECT_API_URL=prefect_server,
    )
    stages = {row["stage"]: row for row in json.loads(result.stdout[result.stdout.index("{\n") :])["stages"]}
    assert {row["outcome"] for row in stages.values()} == {"ran"}
    first, second, last = sorted((stages[f"train@{name}"] for name in "abc"), key=lambda row: float(row["started"]))
    assert overlaps([first, second]) and last["started"] >= min(first["ended"], second["ended"])
    digests = project.digests()
    assert digests.pop("models/c") and digests == done.digests()  # same files as with `dvc repro`


@pytest.mark.slow
def test_without_an_address_a_local_cluster_runs_and_a_killed_run_leaves_no_process(project: Toy) -> None:
    pytest.importorskip("prefect_ray", reason="needs the extra ray: pip install 'cclm-core[ray]'")
    project.environment.update(SETTINGS | {"CCLM_TASK_RUNNER": "ray"})
    project.params(lambda values: values["components"]["a"].update(seconds=1200))
    command = [sys.executable, "-m", "flows.cli", "run"]
    run = subprocess.Popen(command, cwd=project.root, env=project.environment)
    try:
        assert wait_for(lambda: trainings(project, "a"), 600, every=0.5)
        run.kill()
        run.wait()
        assert wait_for(lambda: not trainings(project, "a"), 600, every=0.5)
    finally:
        run.kill()
        run.wait()
    project.params(lambda values: values["components"]["a"].update(seconds=0.5))
    assert json.loads(project.run(*command, "--json").stdout)["stages"][-1]["outcome"] == "ran"
    assert "up to date" in project.dvc("status").stdout


def trainings(project: Toy, name: str) -> list[psutil.Process]:
    """The processes that train a component of the project."""
    matches = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(project.root) and "toy_stages" in words and f"models/{name}" in words:
            matches.append(process)
    return matches
