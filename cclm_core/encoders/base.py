"""The contract of encoders: one feature vector per character in, one per character out."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Encodes (B, L, D_in) as (B, L, width), for any L ≥ 0.

    The result is invariant to padding and to the rest of the batch.

    Attributes:
        width: features per character in the output.
        causal: whether the output at position t depends only on characters up to t.
        reads_words: whether `forward` needs `starts`.
        reads_contexts: whether `forward` takes `contexts`; see `encoders/contextual.py`.
    """

    width: int
    causal: bool = False
    reads_words: bool = False
    reads_contexts: bool = False

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes features as (B, L, width), zeros at padding: float64 if the weights are, otherwise float32.

        Args:
            features: (B, L, D_in), of any precision; values at padding are ignored.
            mask: (B, L) bool, true at characters, false at the padding after them.
            starts: (B, L) bool, true where a word starts; required if `reads_words`, ignored otherwise.
        """


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` as float32, for sums and outputs of modules whose weights may be float16 or bfloat16; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
