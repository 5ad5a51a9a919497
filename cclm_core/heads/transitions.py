"""Learned transitions between the tags of neighboring words: a linear-chain conditional random field.

```
probability of tags = exp(first[t1] + scores[1, t1] + between[t1, t2] + scores[2, t2] + ... + last[tn]) / Z
```

Source: Lafferty, McCallum and Pereira 2001, Conditional Random Fields.
"""

import torch
from torch import Tensor, nn


class Transitions(nn.Module):
    """Scores of the first tag, of each pair of neighboring tags, and of the last tag. All start at 0.

    Args:
        num_tags: Y, the number of tags.

    Shapes: `scores` (B, T, Y) of the words of B texts, `mask` (B, T) bool, true for words, which come first in a row.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.between = nn.Parameter(torch.zeros(num_tags, num_tags))
        self.first = nn.Parameter(torch.zeros(num_tags))
        self.last = nn.Parameter(torch.zeros(num_tags))

    def path_scores(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """The scores (B,) of the paths `tags` (B, T) int64; 0 for a text without words."""
        own = (scores.gather(-1, tags[..., None])[..., 0] * mask).sum(1)
        steps = (self.between[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]).sum(1)
        final = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
        return own + steps + (self.first[tags[:, 0]] + self.last[final]) * mask[:, 0]

    def log_partition(self, scores: Tensor, mask: Tensor) -> Tensor:
        """log Z (B,), by the forward algorithm; 0 for a text without words."""
        return torch.logsumexp(self._forward(scores, mask)[-1] + self.last, dim=-1) * mask[:, 0]

    def log_marginals(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The log-probabilities (B, T, Y) of the tags of each word, by the forward-backward algorithm."""
        before = torch.stack(self._forward(scores, mask), dim=1)
        later = self.last.expand_as(scores[:, 0])
        after = [later]
        for word in range(scores.shape[1] - 1, 0, -1):
            step = torch.logsumexp(self.between + (scores[:, word] + later)[:, None, :], dim=-1)
            later = torch.where(mask[:, word, None], step, self.last)
            after.append(later)
        return torch.log_softmax(before + torch.stack(after[::-1], dim=1), dim=-1)

    def _forward(self, scores: Tensor, mask: Tensor) -> list[Tensor]:
        """For each word, the log of the sum over all paths to each tag, (B, Y); after the last word unchanged."""
        total = self.first + scores[:, 0]
        totals = [total]
        for word in range(1, scores.shape[1]):
            step = torch.logsumexp(total[:, :, None] + self.between, dim=1) + scores[:, word]
            total = torch.where(mask[:, word, None], step, total)
            totals.append(total)
        return totals


def places_of(row: Tensor) -> tuple[Tensor, Tensor]:
    """Where each word is among the words of its text, and which places have words.

    Args:
        row: (N,) int64, the text of each word, ascending.

    Returns:
        (N,) int64, and (B, T) bool for the B texts with words or before one, T ≥ 1.

    >>> place, mask = places_of(torch.tensor([0, 0, 2]))
    >>> place.tolist(), mask.tolist()
    ([0, 1, 0], [[True, True], [False, False], [True, False]])
    """
    counts = torch.bincount(row) if len(row) else row.new_zeros(1)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    longest = max(1, int(counts.max()))
    return place, torch.arange(longest, device=row.device) < counts[:, None]


def padded_words(values: Tensor, row: Tensor, place: Tensor, mask: Tensor) -> Tensor:
    """Values (N, ...) of words as a tensor (B, T, ...), 0 where there is no word."""
    return values.new_zeros(*mask.shape, *values.shape[1:]).index_put((row, place), values)
