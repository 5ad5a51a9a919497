"""Settings for all tests: the CPU, one thread (faster for models this small), no Hypothesis deadlines.

GPU tests set CCLM_DEVICE themselves. The others compare bytes, which are reproducible only on the CPU.
"""

import os

import torch
from hypothesis import settings

os.environ["CCLM_DEVICE"] = "cpu"
torch.set_num_threads(1)
settings.register_profile("cclm", deadline=None)  # a busy machine is not a failure
settings.load_profile("cclm")
