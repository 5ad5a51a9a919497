"""Renders the job template as Prefect's Kubernetes worker does. Needs prefect-kubernetes, but no cluster.

python infra/kubernetes/check.py [NAME=VALUE ...]   prints the job of a flow run with these variables
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("work-pool.json")


async def manifest(variables: dict[str, Any]) -> dict[str, Any]:
    """The Kubernetes job of a flow run with these variables."""
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # not contacted: the template refers to no block
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads(TEMPLATE.read_text())
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(template, variables)
    return dict(configuration.job_manifest)


if __name__ == "__main__":
    pairs = dict(word.split("=", 1) for word in sys.argv[1:])
    variables = {name: int(value) if value.isdigit() else value for name, value in pairs.items()}
    print(json.dumps(asyncio.run(manifest({"command": "prefect flow-run execute", **variables})), indent=2))
