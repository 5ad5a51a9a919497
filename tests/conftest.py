"""What holds for all tests: one thread, so that models of this size do not wait for each other."""

import torch

torch.set_num_threads(1)
