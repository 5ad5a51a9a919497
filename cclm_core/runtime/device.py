"""Where models run: a choice of the machine, and no part of any configuration, identity or artifact.

The environment variable CCLM_DEVICE names it: `cpu`, `cuda`, `cuda:1`. Where it is not set, it is the GPU if torch sees
one. On the CPU the same training gives the same bytes; a GPU rounds differently, and not the same each time.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch

from cclm_core.runtime.errors import ConfigError

VARIABLE = "CCLM_DEVICE"
Precision = Literal["auto", "bf16", "fp32"]


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


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Matrix products in the precision `resolved_precision` gives; weights and features stay float32."""
    if resolved_precision(device, precision) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def resolved_precision(device: torch.device, precision: Precision) -> Literal["bf16", "fp32"]:
    """The precision of matrix products on `device`; `auto` is bf16 where the hardware computes it, otherwise fp32.

    Without AVX-512, torch computes bfloat16 products on the CPU without vector instructions. Measured on a Zen 3 CPU
    with torch 2.13, one thread: a product of 2048 x 256 by 256 x 256 reaches 24 GFLOP/s in fp32, 0.4 in bf16; a
    convolution of 128 to 128 features, kernel 7, over 32 x 256 characters takes 0.08 s in fp32, 5.8 s in bf16.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "fp32"


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Runs the block with `number` CPU threads, from 1; torch's setting is restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
