"""Lets torch notice what fused optimizers change.

`Model.digest` is cached until the version of a weight changes. A fused optimizer (`AdamW(fused=True)`) changes
weights without a new version (torch 2.11 and 2.13), so a hook counts one up after every step of a fused optimizer.
"""

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def count_fused_steps() -> None:
    """Registers the hook for all optimizers of this process."""
    register_optimizer_step_post_hook(_count_up)


def _count_up(optimizer: torch.optim.Optimizer, _args: Any, _options: Any) -> None:
    for group in optimizer.param_groups:
        if group.get("fused"):
            changed = [weight for weight in group["params"] if weight.grad is not None and not weight.is_inference()]
            torch.autograd.graph.increment_version(changed)
