"""What every encoder is: features of characters in, features of the same characters out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Encodes (B, L, D_in) as (B, L, width), for any L ≥ 0.

    What comes out for a text depends on that text alone: not on the padding behind it, nor on the other rows.

    Attributes:
        width: features per character in the output.
        causal: whether the output at t depends on the characters up to t alone.
        reads_words: whether `forward` needs `starts`.
    """

    width: int
    causal: bool = False
    reads_words: bool = False

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes as (B, L, width) float32, zeros at padding.

        Args:
            features: (B, L, D_in); what stands at padding is not read.
            mask: (B, L) bool, true at characters; padding stands behind them.
            starts: (B, L) bool, true where a word begins; needed where `reads_words` says so, not read elsewhere.
        """
