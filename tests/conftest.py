"""Settings for all tests: the CPU, one thread (faster for models this small), no Hypothesis deadlines, time limits.

GPU tests set CCLM_DEVICE themselves. The others compare bytes, which are reproducible only on the CPU.
"""

import os

import pytest
import torch
from hypothesis import settings

os.environ["CCLM_DEVICE"] = "cpu"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start; as many run as there are cores
torch.set_num_threads(1)
settings.register_profile("cclm", deadline=None)  # a busy machine is not a failure
settings.load_profile("cclm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives slow tests half an hour, because they start servers, which takes minutes on a busy machine."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))
