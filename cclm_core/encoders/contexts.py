"""Contexts: other texts by the author of a text, or of its group, that an encoder can read with it."""

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from cclm_core.runtime.errors import DataError


class ContextType(IntEnum):
    """Where the contexts of a text come from. It decides which attention heads are active."""

    NONE = 0
    AUTHOR = 1
    GROUP = 2
    RANDOM = 3


class Contexts(NamedTuple):
    """The contexts of each text of a batch, as ids or as encodings.

    A context without ids, or with `present` false, does not exist.

    Attributes:
        ids: (B, C, L) int64, 0 for padding, C ≥ 0; None with `encodings`.
        types: (B,) int64, a `ContextType` per text; None activates all attention heads.
        encodings: (B, C, W), from `encode_contexts`; None with `ids`.
        present: (B, C) bool, which contexts exist; None: with ids, those that have any.
    """

    ids: Tensor | None = None
    types: Tensor | None = None
    encodings: Tensor | None = None
    present: Tensor | None = None

    def checked(self, num_rows: int) -> "Contexts":
        """The contexts with `present`.

        Raises:
            DataError: both or neither of `ids` and `encodings` are given, or a shape is wrong.
        """
        values = self.ids if self.encodings is None else self.encodings
        if values is None or (self.ids is not None and self.encodings is not None):
            raise DataError("contexts need either `ids` or `encodings`.")
        if values.ndim != 3 or len(values) != num_rows:
            kind = "ids (B, C, L)" if self.encodings is None else "encodings (B, C, W)"
            raise DataError(f"contexts must be {kind} with B = {num_rows}, got {tuple(values.shape)}.")
        if self.types is not None and tuple(self.types.shape) != (num_rows,):
            raise DataError(f"`types` must be ({num_rows},), one per text, got {tuple(self.types.shape)}.")
        present = self.present
        if present is None:
            present = (
                (self.ids != 0).any(-1)
                if self.ids is not None
                else torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
            )
        elif present.shape != values.shape[:2]:
            raise DataError(f"`present` must be {tuple(values.shape[:2])}, got {tuple(present.shape)}.")
        return self._replace(present=present)

    def to(self, device: torch.device) -> "Contexts":
        """A copy on `device`."""
        return Contexts(*(None if tensor is None else tensor.to(device) for tensor in self))
