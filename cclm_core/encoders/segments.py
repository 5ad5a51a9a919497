"""Words as positions: the characters of each word pooled to one vector, and a vector of each word given back."""

import torch
from torch import Tensor


class Segments:
    """The rows of a batch, cut where words start.

    A segment is a word with what stands behind it up to the next word; a text begins one, and a segment that is
    longer than `longest` is cut. "to be, or" has the segments "to ", "be, ", "or".

    Args:
        starts: (B, L) bool, where words begin, L ≥ 1.
        mask: (B, L) bool, true at characters; padding stands behind them.
        longest: characters per segment.

    Attributes:
        place: (B, L) int64, how many characters of its segment stand before each, less than `longest`.
        valid: (B, P) bool, which of the P positions hold a segment; P is the largest number of segments in a row.
    """

    def __init__(self, starts: Tensor, mask: Tensor, longest: int) -> None:
        columns = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
        begun = torch.where(starts, columns, 0).cummax(1).values
        self.place = (columns - begun) % longest
        self._mask, self._begins = mask, (self.place == 0) & mask
        self._number = (self._begins.cumsum(1) - 1).clamp(min=0)
        counts = self._begins.sum(1)
        self.valid = torch.arange(max(1, int(counts.max())), device=starts.device) < counts[:, None]

    def pool(self, features: Tensor, causal: bool) -> Tensor:
        """The mean (B, P, D) of the `features` (B, L, D) of each segment.

        The causal one pools for each segment its first character and those behind the first of the segment before:
        nothing that a character of the segment may not see.
        """
        batch, _, width = features.shape
        rows = self.valid.shape[1] + 1  # one more, for what no later segment reads
        number = self._number + (~self._begins).long() if causal else self._number
        flat = (number + rows * torch.arange(batch, device=number.device)[:, None])[self._mask]
        sums = features.new_zeros(batch * rows, width, dtype=torch.float32)
        sums = sums.index_add(0, flat, features[self._mask].float())
        sizes = torch.bincount(flat, minlength=batch * rows).clamp(min=1)
        return (sums / sizes[:, None]).view(batch, rows, width)[:, :-1]

    def spread(self, positions: Tensor) -> Tensor:
        """The vector (B, L, D) of each character's segment among `positions` (B, P, D)."""
        return positions.gather(1, self._number[..., None].expand(-1, -1, positions.shape[2]))
