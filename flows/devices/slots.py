"""Device slots: limit the number of stages that train at the same time to the number of devices.

A slot is a locked file in `.cclm/slots/`, named after its device. All runs in this clone share the slots, and the
operating system releases the slots of a process that dies. With a Prefect server, a stage first leases a slot of the
server's global concurrency limit `cclm-devices`, which counts the devices of all machines, and then locks a file, which
selects its device on this machine. With Ray, the cluster assigns the devices, and only cores are counted here.
"""

import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import try_lock
from flows.devices.runners import on_ray
from flows.project import Project

LIMIT = "cclm-devices"
LEASE_SECONDS = 60.0  # Prefect's minimum; a killed process keeps its slot for at most this long
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Slot:
    """A device slot.

    Attributes:
        number: index of the slot on this machine.
        environment: variables that make only this device visible to a stage.
    """

    number: int
    environment: dict[str, str]


def num_slots() -> int:
    """The number of device slots on this machine.

    `CCLM_DEVICE_SLOTS` if set, otherwise one per GPU, or one per CPU core if there is no GPU.

    Raises:
        ConfigError: `CCLM_DEVICE_SLOTS` is not a positive integer.
    """
    setting = os.environ.get("CCLM_DEVICE_SLOTS")
    if setting is None:
        return len(gpus()) or len(os.sched_getaffinity(0))
    if not setting.isdigit() or int(setting) < 1:
        raise ConfigError(f"CCLM_DEVICE_SLOTS must be a positive integer, got {setting!r}.")
    return int(setting)


def gpus() -> list[str]:
    """The GPUs that this process can use, named as in CUDA_VISIBLE_DEVICES. Does not import torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    numbers = [match[1] for path in Path("/dev").glob("nvidia*") if (match := re.fullmatch(r"nvidia(\d+)", path.name))]
    return [str(index) for index in range(len(numbers))]


@contextmanager
def lease(project: Project) -> Iterator[Slot]:
    """Waits for a device slot, first of the server and then of this clone, and holds it for the block.

    Raises:
        ConfigError: the server's concurrency limit was deleted during the run.
    """
    if on_ray():  # Ray has assigned the node and the GPU
        with _core_of_node():
            yield Slot(0, {})
        return
    with _leased_by_server(), _device(project) as slot:
        yield slot


def server_limited() -> bool:
    """Whether a Prefect server limits the number of devices in use: a server is configured, and Ray is off."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value()) and not on_ray()


def ensure_limit() -> str | None:
    """Creates the server's concurrency limit if it does not exist, with the number of slots on this machine.

    An existing limit is never changed, because it counts the devices of all machines.

    Returns:
        A message for the user if the limit was created, otherwise None.
    """
    if not server_limited():
        return None
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
            return None
        except ObjectNotFound:
            slots = num_slots()
        try:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=slots))
        except ObjectAlreadyExists:  # another run created it in the meantime
            return None
    return (
        f"Created the concurrency limit {LIMIT} on Prefect's server with {slots} slots, one per device slot of this "
        f"machine. If you add machines, run `prefect gcl update {LIMIT} --limit N` with the total number of devices."
    )


@contextmanager
def _leased_by_server() -> Iterator[None]:
    if not server_limited():
        yield
        return
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    with ExitStack() as stack:
        try:
            # Losing the server for a minute must not end hours of training. The slot's file stays locked.
            stack.enter_context(
                concurrency(
                    LIMIT, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False
                )
            )
        except ConcurrencySlotAcquisitionError as error:
            raise ConfigError(
                f"the global concurrency limit {LIMIT} was not found on Prefect's server ({error}). Run "
                f"`prefect gcl create {LIMIT} --limit N`, where N is the total number of devices."
            ) from None
        yield


@contextmanager
def _core_of_node() -> Iterator[None]:
    """Holds a core of this Ray node for the block, if the task has no GPU.

    Ray holds GPUs until a task ends, but releases its core while the task fetches its arguments, so that too many
    stages could train at the same time.
    """
    import ray

    if ray.get_gpu_ids():
        yield
        return
    node = ray.get_runtime_context().get_node_id()
    cores = next(int(info["Resources"].get("CPU", 1)) for info in ray.nodes() if info["NodeID"] == node)
    folder = private_folder(Path(tempfile.gettempdir()) / f"cclm-ray-{os.getuid()}")  # nodes share the clone's disk
    with ExitStack() as stack:
        _wait(stack, [folder / f"{node}-{index}.lock" for index in range(cores)])
        yield


def private_folder(folder: Path) -> Path:
    """Creates a folder in a place that other users can write to, and checks that nobody else made it.

    Raises:
        ConfigError: it belongs to another user, others can access it, or it is a link.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(f"{folder} must be a folder that only you can access. Have it deleted, then run again.")
    return folder


@contextmanager
def _device(project: Project) -> Iterator[Slot]:
    folder, count, devices = project.state("slots"), num_slots(), gpus()
    with ExitStack() as stack:
        number = _wait(stack, [folder / _file(index, devices) for index in range(count)])
        # If there are more slots than GPUs, several slots share a GPU.
        environment = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
        yield Slot(number, environment)


def _file(number: int, devices: list[str]) -> str:
    """The name of a slot's file. It contains the device, because processes may see different GPUs (as with Ray).

    >>> [_file(number, ["3", "7"]) for number in range(3)], _file(1, [])
    (['gpu-3-0.lock', 'gpu-7-0.lock', 'gpu-3-1.lock'], 'cpu-1.lock')
    """
    if not devices:
        return f"cpu-{number}.lock"
    device = devices[number % len(devices)].strip().replace("/", "_")
    return f"gpu-{device}-{number // len(devices)}.lock"


def _wait(stack: ExitStack, files: list[Path]) -> int:
    """Waits until one of the files can be locked, and returns its index."""
    while True:
        for index, path in enumerate(files):
            if _lock(stack, path):
                return index
        time.sleep(POLL_SECONDS)


def _lock(stack: ExitStack, path: Path) -> bool:
    try:
        stack.enter_context(try_lock(path, Timeout(str(path))))
    except Timeout:
        return False
    return True
