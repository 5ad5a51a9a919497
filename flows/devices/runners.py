"""Where a flow's tasks run: threads of its own process, or a Ray cluster.

`CCLM_TASK_RUNNER` selects it, `threads` (the default) or `ray`; it is read when the flows are imported. For Ray,
`RAY_ADDRESS` names a running cluster, as Ray itself reads it; without it a local one is started for the run.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError

SETTING = "CCLM_TASK_RUNNER"
RUNNERS = ("threads", "ray")
# What a node needs to know of this run; credentials a node has of its own, for what is passed on is shown by Ray.
PASSED_ON = ("CCLM_", "DVC_")
PASSED_ON_NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYTHONPATH")


def on_ray() -> bool:
    """Whether tasks run on Ray.

    Raises:
        ConfigError: the setting names no runner.
    """
    given = os.environ.get(SETTING) or "threads"
    if given not in RUNNERS:
        raise ConfigError(f"{SETTING} must name a task runner, got {given!r}; {nearest(given, list(RUNNERS))}")
    return given == "ray"


def task_runner() -> Any:
    """Prefect's task runner for the setting.

    Raises:
        ConfigError: the setting names no runner, or Ray is not installed.
    """
    if not on_ray():
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()  # unlimited: a task that waits for another occupies a thread
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise ConfigError(
            f"{SETTING}=ray must find prefect-ray and ray, which are not installed ({error}). "
            "Run `pip install 'cclm[ray]'`."
        ) from None
    passed = {
        name: value for name, value in os.environ.items() if name.startswith(PASSED_ON) or name in PASSED_ON_NAMES
    }
    return RayTaskRunner(init_kwargs={"runtime_env": {"env_vars": passed}})


def training_resources() -> AbstractContextManager[Any]:
    """The resources that a training submitted in the block requests of the cluster: a GPU if it has one, or a core."""
    if not on_ray():
        return nullcontext()
    import ray
    from prefect_ray.context import remote_options

    options: AbstractContextManager[Any] = remote_options(
        num_cpus=1, num_gpus=1 if ray.cluster_resources().get("GPU") else 0
    )
    return options
