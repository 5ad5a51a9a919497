"""What holds for all tests: one thread, so that models of this size do not wait for each other, no deadlines, the CPU.

A test that needs a GPU sets CCLM_DEVICE itself; all others compare bytes, which only the CPU repeats.
"""

import os

import torch
from hypothesis import settings

os.environ["CCLM_DEVICE"] = "cpu"
torch.set_num_threads(1)
settings.register_profile("cclm", deadline=None)  # a busy machine is no failure
settings.load_profile("cclm")
