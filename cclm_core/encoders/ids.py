"""Ids before a model reads them: clear errors instead of those of an index into a table, and reading in reverse."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.runtime.errors import DataError


def as_ids(ids: Tensor | npt.NDArray[Any]) -> Tensor:
    """Returns ids as an int64 tensor of the same shape, on the same device.

    Args:
        ids: a tensor or an array of whole numbers of any width.

    Raises:
        DataError: `ids` is not a tensor or an array, or holds floats, truth values or objects.
    """
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return torch.from_numpy(ids.astype(np.int64))
    if not isinstance(ids, Tensor):
        kind = f"an array of {ids.dtype}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise DataError(f"ids must be a tensor of whole numbers, got {kind}. Use `preprocessor.encode(text)`.")
    if ids.dtype == torch.int64:
        return ids
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise DataError(f"ids must be whole numbers (int64), got {ids.dtype}. Use `preprocessor.encode(text)`.")
    return ids.to(torch.int64)


def as_batch(ids: Tensor | npt.NDArray[Any]) -> Tensor:
    """Returns ids as a batch (B, L) int64. Raises DataError like `as_ids`, and for another number of dimensions."""
    batch = as_ids(ids)
    if batch.ndim != 2:
        shape = tuple(batch.shape)
        raise DataError(f"ids must have the shape (batch, length), got {shape}. Use `ids[None]` for one text.")
    return batch


def check_range(ids: Tensor, num_ids: int) -> None:
    """Checks 0 ≤ id < `num_ids`. Ids on a GPU are not checked, since that would wait for it.

    Raises:
        DataError: an id is out of range; the message names it and its position.
    """
    if torch.compiler.is_compiling() or ids.device.type != "cpu" or not ids.numel():
        return
    if torch._C._are_functorch_transforms_active():
        return
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= num_ids:
        wrong = low if low < 0 else high
        position = (ids == wrong).nonzero()[0].tolist()
        raise DataError(
            f"ids must be at least 0 and below {num_ids}, the size of the vocabulary, got {wrong} at {position}. "
            "Encode the texts with the vocabulary of this model."
        )


def reversed_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Reverses the text in each row; the padding after it stays where it is.

    >>> reversed_rows(torch.tensor([[5, 6, 7, 0]]), torch.tensor([[True, True, True, False]])).tolist()
    [[7, 6, 5, 0]]

    Args:
        values: (B, L) or (B, L, D).
        mask: (B, L) bool, false at the padding after the text of each row.
    """
    columns = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    lengths = (columns + 1).masked_fill(~mask, 0).amax(1, keepdim=True) if mask.shape[1] else columns
    index = torch.where(columns < lengths, lengths - 1 - columns, columns)
    if values.ndim == 3:
        index = index[:, :, None].expand(-1, -1, values.shape[2])
    return values.gather(1, index)
