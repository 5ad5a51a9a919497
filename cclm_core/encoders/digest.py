"""The digest of the weights of a module."""

import hashlib
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn


def weights_digest(module: nn.Module, about: str = "") -> str:
    """SHA-256 of `about` and of the names, shapes, types and bytes of a module's weights.

    A weight with several names counts under each of them. Weights without storage have no bytes, so that parts can be
    composed before their weights are loaded.
    """
    state = hashlib.sha256(about.encode())
    for name, tensor in sorted(weights_of(module)):
        kind = "" if tensor.dtype == torch.float32 else f" {tensor.dtype}"
        state.update(f"{name} {tuple(tensor.shape)}{kind}".encode())
        if tensor.is_meta and type(tensor) in (Tensor, nn.Parameter):
            continue
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def weights_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All names of the saved tensors of a module with the tensors; a shared tensor has several names."""
    for path, part in module.named_modules(remove_duplicate=False):
        saved = {name: tensor for name, tensor in part._buffers.items() if name not in part._non_persistent_buffers_set}
        for name, tensor in chain(part._parameters.items(), saved.items()):
            if tensor is not None:
                yield (f"{path}.{name}" if path else name), tensor
