"""Layers over the words of a text: each word also reads its neighbors."""

import torch
from torch import Tensor, nn

from cclm_core.heads.transitions import padded_words, places_of


class WordLayers(nn.Module):
    """Residual convolutions over words, each of which reads a word and one neighbor on each side.

    ```
    words = project(words)
    words = words + gate * value, from norm([left, word, right])     repeated
    ```

    N layers see N words to the left and N to the right. An encoder with a stride blurs where words begin and end; these
    layers put the words of a text in line. Sources: the window encoder of spaCy's `tok2vec`; gated linear units
    (Dauphin et al. 2017, arXiv 1612.08083).

    Args:
        width_in: features of a word.
        width: features of a word inside and in the output.
        num_layers: number of convolutions.
    """

    def __init__(self, width_in: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(width_in, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_layers))
        self.layers = nn.ModuleList(nn.Linear(3 * width, 2 * width) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, row: Tensor) -> Tensor:
        """Encodes the features (N, width_in) of N words as (N, width).

        Args:
            words: one row per word.
            row: (N,) int64, the text of each word, ascending.
        """
        place, mask = places_of(row)
        inside = padded_words(self.project(words), row, place, mask)
        keep = mask[..., None]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            middle = norm(inside) * keep
            padded = nn.functional.pad(middle, (0, 0, 1, 1))
            value, gate = layer(torch.cat([padded[:, :-2], middle, padded[:, 2:]], dim=-1)).chunk(2, dim=-1)
            inside = inside + value * torch.sigmoid(gate)
        encoded: Tensor = self.norm(inside)[row, place]
        return encoded
