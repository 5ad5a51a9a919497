"""The same flow on Ray: two nodes, one core each, train side by side."""

import json
import sys
from collections.abc import Iterator

import pytest

from flows.tables import overlaps
from tests.flows.conftest import Project


def test_an_unknown_runner_and_a_missing_extra_are_refused(done: Project) -> None:
    told = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="rai")
    assert told.returncode == 2 and "CCLM_TASK_RUNNER must name a task runner, got 'rai'" in told.stderr
    (done.root / "prefect_ray.py").write_text("raise ImportError('it is not here')")
    told = done.run(sys.executable, "-m", "flows.cli", "run", "--force", "make", check=False, CCLM_TASK_RUNNER="ray")
    assert told.returncode == 2 and "Run `pip install 'cclm[ray]'`." in told.stderr


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes on this machine."""
    pytest.importorskip("prefect_ray", reason="needs the extra ray: pip install 'cclm[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
        nodes.add_node(num_cpus=1, num_gpus=0)
        nodes.wait_for_nodes()
        try:
            yield str(nodes.address)
        finally:
            nodes.shutdown()


@pytest.mark.slow
def test_two_nodes_train_side_by_side_and_make_the_same_bytes(
    project: Project, done: Project, cluster: str, prefect_server: str
) -> None:
    project.params(lambda values: [one.update(seconds=5) for one in values["components"].values()])
    told = project.run(
        *(sys.executable, "-m", "flows.cli", "run", "--json"),
        CCLM_TASK_RUNNER="ray",
        RAY_ADDRESS=cluster,
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        PREFECT_API_URL=prefect_server,
        CUDA_VISIBLE_DEVICES="",
        CCLM_DEVICE_SLOTS="2",
    )
    stages = json.loads(told.stdout[told.stdout.index("{\n") :])["stages"]
    assert {row["outcome"] for row in stages} == {"ran"}
    assert overlaps(stages) == ["train@a", "train@b"]
    assert project.digests() == done.digests()
