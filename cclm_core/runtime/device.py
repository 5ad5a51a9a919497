"""The device that models run on. It depends on the machine and is not part of a configuration, identity or artifact.

The environment variable CCLM_DEVICE selects it: `cpu`, `cuda`, `cuda:1`. The default is a GPU if torch sees one,
otherwise the CPU. On the CPU, the same training gives the same bytes. A GPU rounds differently, and not always alike.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, Literal, Protocol

import torch

from cclm_core.runtime.errors import ConfigError

VARIABLE = "CCLM_DEVICE"

_LOCK, _THIS_THREAD = threading.Lock(), threading.local()
_OPEN: list[int] = []  # what the open blocks of `num_threads` will restore
Precision = Literal["auto", "bf16", "fp32"]


def select_device() -> torch.device:
    """The device of this process: CCLM_DEVICE, otherwise a GPU if torch sees one, otherwise the CPU.

    Raises:
        ConfigError: CCLM_DEVICE is not the name of a device, or torch does not see that device.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(
            f"{VARIABLE} must be cpu, cuda or cuda:NUMBER, got {name!r}. Unset it to use a GPU if torch sees one."
        )
    device = torch.device(name)
    if device.type == "cuda":
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= num_gpus:
            raise ConfigError(
                f"{VARIABLE} is {name!r}, but torch {torch.__version__} sees {num_gpus} GPUs. Set it to cpu or to a "
                "lower number, or install a driver and a torch build for this GPU."
            )
    return device


class HasParameters(Protocol):
    """A torch module, or another object with parameters; `device_of` reads `buffers()`, too, if there is one."""

    def parameters(self) -> Iterator[Any]:
        """Iterates over the parameters."""
        ...


def device_of(module: HasParameters) -> torch.device:
    """The device of a module's weights, trained or not; the CPU if it has no weights."""
    weights = chain(module.parameters(), module.buffers() if isinstance(module, torch.nn.Module) else ())
    return next((weight.device for weight in weights), torch.device("cpu"))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Computes matrix products in `resolved_precision`; weights and features stay float32."""
    if resolved_precision(device, precision) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Computes in the type of the inputs within a block of `autocast`, where bf16 would be too coarse."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def resolved_precision(device: torch.device, precision: Precision) -> Literal["bf16", "fp32"]:
    """The precision of matrix products on `device`; `auto` is bf16 where the hardware supports it, otherwise fp32.

    Without AVX-512, torch computes bfloat16 products on the CPU without vector instructions. Measured on a Zen 3 CPU
    with torch 2.13 and one thread:

    ```
                                                             fp32          bf16
    product of 2048 x 256 by 256 x 256                       24 GFLOP/s    0.4 GFLOP/s
    convolution 128 to 128, kernel 7, 32 x 256 characters    0.08 s        5.8 s
    ```
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "fp32"


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Runs the block with `number` CPU threads (at least 1), then restores torch's setting."""
    with _LOCK:
        depth = getattr(_THIS_THREAD, "depth", 0)
        # The setting belongs to a thread, but a new thread starts with the latest one, maybe that of another block.
        before = _OPEN[0] if _OPEN and not depth else torch.get_num_threads()
        _OPEN.append(before)
        _THIS_THREAD.depth = depth + 1
        torch.set_num_threads(number)
    try:
        yield
    finally:
        with _LOCK:
            _OPEN.remove(before)
            _THIS_THREAD.depth = depth
            torch.set_num_threads(before)
