"""Tries the template as Prefect's Kubernetes worker does, without a cluster; needs `pip install prefect-kubernetes`.

python infra/kubernetes/check.py [NAME=VALUE ...]   prints the job that a run with these variables would make
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("work-pool.json")


async def manifest(values: dict[str, Any]) -> dict[str, Any]:
    """The job that a run with these variables would make."""
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # the template names no block: no server is asked
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads(TEMPLATE.read_text())
    made = await KubernetesWorkerJobConfiguration.from_template_and_values(template, values)
    return dict(made.job_manifest)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    typed = {name: int(value) if value.isdigit() else value for name, value in given.items()}
    print(json.dumps(asyncio.run(manifest({"command": "prefect flow-run execute", **typed})), indent=2))
