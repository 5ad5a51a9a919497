"""Device slots: as many stages as there are devices train at once; the others wait their turn.

A slot of this clone is a locked file under `.cclm/slots/`, named for its device: all runs share the slots, and the
operating system frees those of a process that dies. With a Prefect server a training first leases one slot of the
server's global concurrency limit `cclm-devices`, which counts the devices of all machines, and then takes a file, which
determines its device on this machine. Under Ray the cluster assigns the devices; only cores are counted here.
"""

import os
import re
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
LEASE_SECONDS = 60.0  # the shortest that Prefect grants: what a killed holder keeps its slot at most
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Slot:
    """A leased device: its number, and the environment that shows a stage this device alone."""

    number: int
    environment: dict[str, str]


def num_slots() -> int:
    """`CCLM_DEVICE_SLOTS`; by default one per GPU, or one per CPU core if there is no GPU.

    Raises:
        ConfigError: the variable is not a positive integer.
    """
    given = os.environ.get("CCLM_DEVICE_SLOTS")
    if given is None:
        return len(gpus()) or len(os.sched_getaffinity(0))
    if not given.isdigit() or int(given) < 1:
        raise ConfigError(f"CCLM_DEVICE_SLOTS must be a positive integer, got {given!r}.")
    return int(given)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    numbers = [match[1] for path in Path("/dev").glob("nvidia*") if (match := re.fullmatch(r"nvidia(\d+)", path.name))]
    return [str(index) for index in range(len(numbers))]


@contextmanager
def lease(project: Project) -> Iterator[Slot]:
    """Waits for a free slot, of the server first and then of this clone, and holds it for the block.

    Raises:
        ConfigError: the server's limit was deleted while a pipeline ran.
    """
    if on_ray():  # it has chosen the node, and shows this process its GPU
        with _core_of_node():
            yield Slot(0, {})
        return
    with _leased_by_server(), _device(project) as slot:
        yield slot


def server_limited() -> bool:
    """Whether a Prefect server counts the devices: one is configured, and Ray does not do it."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value()) and not on_ray()


def ensure_limit() -> str | None:
    """Makes the server's limit with this machine's number of slots when it is missing; returns what to tell of it.

    A limit that is there is never changed: with several machines it is larger than any one of them knows.
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
        except ObjectAlreadyExists:  # another run made it just now
            return None
    return (
        f"Prefect's server had no concurrency limit {LIMIT}: made it with this machine's {slots} device slots. "
        f"With more machines: `prefect gcl update {LIMIT} --limit N`."
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
            # A server that is away for a minute must not end a training of hours: this machine's own lock still holds.
            stack.enter_context(
                concurrency(
                    LIMIT, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False
                )
            )
        except ConcurrencySlotAcquisitionError as error:
            raise ConfigError(
                f"Prefect's server must have the global concurrency limit {LIMIT} ({error}). Make it: "
                f"`prefect gcl create {LIMIT} --limit N`, with N the number of devices."
            ) from None
        yield


@contextmanager
def _core_of_node() -> Iterator[None]:
    """Holds a core of this Ray node. Ray counts GPUs to the end of a task, but gives a core away while the task fetches
    what it was passed, and one training more may have come in then.
    """
    import ray

    if ray.get_gpu_ids():
        yield
        return
    node = ray.get_runtime_context().get_node_id()
    cores = next(int(one["Resources"].get("CPU", 1)) for one in ray.nodes() if one["NodeID"] == node)
    folder = Path(tempfile.gettempdir()) / f"cclm-ray-{os.getuid()}"  # of this machine: the clone's disk is shared
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        _wait(stack, [folder / f"{node}-{index}.lock" for index in range(cores)])
        yield


@contextmanager
def _device(project: Project) -> Iterator[Slot]:
    folder, count, devices = project.state("slots"), num_slots(), gpus()
    with ExitStack() as stack:
        number = _wait(stack, [folder / _file(index, devices) for index in range(count)])
        # More slots than GPUs share them in turn.
        environment = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
        yield Slot(number, environment)


def _file(number: int, devices: list[str]) -> str:
    """The name of a slot's file: processes that see different GPUs, as under Ray, must not meet on one number.

    >>> [_file(number, ["3", "7"]) for number in range(3)], _file(1, [])
    (['gpu-3-0.lock', 'gpu-7-0.lock', 'gpu-3-1.lock'], 'cpu-1.lock')
    """
    if not devices:
        return f"cpu-{number}.lock"
    device = devices[number % len(devices)].strip().replace("/", "_")
    return f"gpu-{device}-{number // len(devices)}.lock"


def _wait(stack: ExitStack, files: list[Path]) -> int:
    """Holds the first of the files that gets free; returns its index."""
    while True:
        for index, path in enumerate(files):
            if _take(stack, path):
                return index
        time.sleep(POLL_SECONDS)


def _take(stack: ExitStack, path: Path) -> bool:
    try:
        stack.enter_context(try_lock(path, Timeout(str(path))))
    except Timeout:
        return False
    return True
