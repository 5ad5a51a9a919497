"""What Prefect's server must know: `python -m flows.stack.pools POOL...` makes what is missing.

The work pools that are named, of type process; the limit of devices, `cclm-devices`, with a slot for each device of
this machine; the deployments of prefect.yaml. A limit that is there keeps its number: someone may have chosen it.
"""

import subprocess
import sys
from pathlib import Path

from flows.paths import project_root
from flows.slots import num_slots

DEVICES = "cclm-devices"


def main(pools: list[str]) -> None:
    """Makes pools, limit and deployments.

    Raises:
        CalledProcessError: prefect.yaml could not be deployed; Prefect has said why.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        for pool in pools:
            try:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
                print(f"work pool {pool} made")
            except ObjectAlreadyExists:
                print(f"work pool {pool} is there")
        try:
            found = client.read_global_concurrency_limit_by_name(DEVICES)
            print(f"limit {DEVICES} is there, with {found.limit} slots")
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=DEVICES, limit=num_slots()))
            print(f"limit {DEVICES} made, with {num_slots()} slots")
    deploy(project_root())


def deploy(root: Path) -> None:
    """Deploys what prefect.yaml names."""
    if not (root / "prefect.yaml").is_file():
        print("there is no prefect.yaml: nothing is deployed")
        return
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=root, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
