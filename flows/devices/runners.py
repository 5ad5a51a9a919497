"""Where the tasks of a flow run: in threads of its process, or on a Ray cluster.

Set `CCLM_TASK_RUNNER` to `threads` (the default) or `ray` before the flows are imported. With Ray, `RAY_ADDRESS`
selects a running cluster; without it, a local cluster is started for the run.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError

SETTING = "CCLM_TASK_RUNNER"
RUNNERS = ("threads", "ray")
# Environment variables that Ray nodes get from this process. Never add credentials: Ray displays these variables.
FORWARDED_PREFIXES = ("CCLM_", "DVC_")
FORWARDED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYTHONPATH")


def on_ray() -> bool:
    """Whether tasks run on Ray.

    Raises:
        ConfigError: `CCLM_TASK_RUNNER` is neither `threads` nor `ray`.
    """
    runner = os.environ.get(SETTING) or "threads"
    if runner not in RUNNERS:
        raise ConfigError(
            f"{SETTING} must be one of {', '.join(RUNNERS)}, got {runner!r}; {nearest(runner, list(RUNNERS))}"
        )
    return runner == "ray"


def task_runner() -> Any:
    """The Prefect task runner selected by `CCLM_TASK_RUNNER`.

    Raises:
        ConfigError: the setting is invalid, or Ray is not installed.
    """
    if not on_ray():
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()  # no limit, because waiting tasks occupy threads
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise ConfigError(
            f"{SETTING}=ray needs prefect-ray and ray, which are not installed ({error}). "
            "Run `pip install 'cclm-core[ray]'`."
        ) from None
    forwarded = {
        name: value for name, value in os.environ.items() if name.startswith(FORWARDED_PREFIXES) or name in FORWARDED
    }
    return RayTaskRunner(init_kwargs={"runtime_env": {"env_vars": forwarded}})


def training_resources() -> AbstractContextManager[Any]:
    """Context in which submitted stages request Ray resources: one core, and one GPU if the cluster has GPUs."""
    if not on_ray():
        return nullcontext()
    import ray
    from prefect_ray.context import remote_options

    options: AbstractContextManager[Any] = remote_options(
        num_cpus=1, num_gpus=1 if ray.cluster_resources().get("GPU") else 0
    )
    return options
