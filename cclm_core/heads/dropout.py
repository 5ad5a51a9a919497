"""Dropout whose mask depends on a seed in the batch, not on a global generator: trainings resume exactly."""

import torch
from torch import Tensor

from cclm_core.heads.base import Targets

SEED = "dropout_seed"
"""The key of `Targets` with the seed, () int64; batches for evaluation have none."""


def dropout(features: Tensor, share: float, targets: Targets) -> Tensor:
    """Sets a random `share` of the features to zero and scales the others, if the batch has a seed.

    Source: inverted dropout (Srivastava et al. 2014, JMLR 15).
    """
    if share == 0 or SEED not in targets:
        return features
    generator = torch.Generator(features.device).manual_seed(int(targets[SEED]))
    keep = torch.rand(features.shape, generator=generator, device=features.device) >= share
    return features * keep / (1 - share)
