"""What holds for all tests: one thread, so that models of this size do not wait for each other, and no deadlines."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("cclm", deadline=None)  # a busy machine is no failure
settings.load_profile("cclm")
