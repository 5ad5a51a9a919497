"""What Prefect's server must know: `python -m flows.stack.pools POOL...` makes what is missing.

The work pools that are named, of type process; the limit of devices, `cclm-devices`, with a slot for each device of
this machine; the deployments of prefect.yaml. A limit that is there keeps its number: someone may have chosen it.
"""

import subprocess
import sys
from pathlib import Path

from flows.devices.slots import LIMIT, ensure_limit
from flows.project import Project


def main(pools: list[str]) -> None:
    """Makes pools, limit and deployments.

    Raises:
        CalledProcessError: prefect.yaml could not be deployed; Prefect has said why.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for pool in pools:
            try:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
                print(f"work pool {pool} made")
            except ObjectAlreadyExists:
                print(f"work pool {pool} is there")
    print(ensure_limit() or f"limit {LIMIT} is there")
    deploy(Project.find().root)


def deploy(root: Path) -> None:
    """Deploys what prefect.yaml names."""
    if not (root / "prefect.yaml").is_file():
        print("there is no prefect.yaml: nothing is deployed")
        return
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=root, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
