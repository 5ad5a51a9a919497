"""The contract of encoders: features of characters in, features of the same characters out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Encodes (B, L, D_in) as (B, L, width), for any L ≥ 0.

    The features of a text depend on that text alone, not on padding or on the other rows of the batch.

    Attributes:
        width: features per character in the output.
        causal: whether the output at position t depends on the characters up to t alone.
        reads_words: whether `forward` needs `starts`.
    """

    width: int
    causal: bool = False
    reads_words: bool = False

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes as (B, L, width) float32, zeros at padding.

        Args:
            features: (B, L, D_in); values at padding are ignored.
            mask: (B, L) bool, true at characters, false at the padding after them.
            starts: (B, L) bool, true where a word starts; required if `reads_words`, ignored otherwise.
        """
