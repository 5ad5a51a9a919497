"""Where models run: a choice of the machine, and no part of any configuration, identity or artifact.

The environment variable CCLM_DEVICE names it: `cpu`, `cuda`, `cuda:1`. Where it is not set, it is the GPU if torch sees
one. On the CPU the same training gives the same bytes; a GPU rounds differently, and not the same each time.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

from cclm_core.runtime.errors import ConfigError

VARIABLE = "CCLM_DEVICE"


def chosen_device() -> torch.device:
    """The device that this process is to compute on.

    Raises:
        ConfigError: CCLM_DEVICE names no device, or one that torch does not see.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(
            f"{VARIABLE} must be cpu, cuda or cuda:NUMBER, got {name!r}; unset, it is a GPU if there is one."
        )
    device = torch.device(name)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ConfigError(
                f"{VARIABLE} must name a device that torch {torch.__version__} sees, got {name!r}, but it sees {found} "
                "GPUs. Set it to cpu or to a lower number, or install a driver and a build of torch for this GPU."
            )
    return device


class Parametrised(Protocol):
    """A module, or what has parameters like one."""

    def parameters(self) -> Iterator[Any]: ...


def device_of(module: Parametrised) -> torch.device:
    """Where the weights of a module are; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """With `bf16`, matrix products in bfloat16 where that is safe; with `fp32`, nothing changes."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Limits torch to `number` CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
