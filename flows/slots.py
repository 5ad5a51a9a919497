"""Device slots: as many stages as there are devices train at once; the others wait their turn.

A slot is a locked file under `.cclm/slots/`, so that all runs on this machine share the slots and the operating system
frees those of a process that dies.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cclm_core.errors import ConfigError
from flows.paths import state

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Slot:
    """A leased device: its number, and the environment that shows a stage this device alone."""

    number: int
    environment: dict[str, str]


def num_slots() -> int:
    """`CCLM_DEVICE_SLOTS`, else one for each GPU, else one for each CPU core.

    Raises:
        ConfigError: the variable is no positive integer.
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
def lease(root: Path) -> Iterator[Slot]:
    """Waits for a free slot and holds it for the block."""
    folder, count, devices = state(root, "slots"), num_slots(), gpus()
    with ExitStack() as stack:
        number = None
        while number is None:
            number = next((index for index in range(count) if _take(stack, folder / f"{index}.lock")), None)
            if number is None:
                time.sleep(POLL_SECONDS)
        # More slots than GPUs share them in turn.
        environment = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
        yield Slot(number, environment)


def _take(stack: ExitStack, path: Path) -> bool:
    try:
        stack.enter_context(FileLock(path, timeout=0, thread_local=False))
    except Timeout:
        return False
    return True
