"""Batches of Hugging Face models, for encoders that read padding after the text only."""

from collections.abc import Callable

from torch import Tensor

from cclm_core.composition.long_texts import split
from cclm_core.encoders.ids import as_batch
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.alphabet import PAD


class CharacterBatch:
    """The characters of a batch, moved to the front of each row, so that any padding gives the same features.

    Args:
        input_ids: (B, L) of whole numbers, or (L,) for one text.
        attention_mask: (B, L), 0 at padding, on either side or between characters; None if only PAD is padding.

    Attributes:
        input_ids: (B, L) int64, as given.
        ids: (B, L) int64, the characters of each row, then PAD.
        mask: (B, L) bool, where `input_ids` has characters.

    Raises:
        ConfigError: the shapes differ, or there are no ids.
        DataError: the ids are not whole numbers.
    """

    def __init__(self, input_ids: Tensor | None, attention_mask: Tensor | None = None) -> None:
        if input_ids is None:
            raise ConfigError(
                "`input_ids` is missing. Models of characters look up n-grams of ids, so they cannot read "
                "`inputs_embeds`."
            )
        if not input_ids.numel() and input_ids.is_floating_point():
            input_ids = input_ids.long()  # the type of a tensor made of empty lists
        ids = as_batch(input_ids[None] if input_ids.ndim == 1 else input_ids)
        self.input_ids = ids
        self.mask = ids != PAD
        if attention_mask is not None:
            mask = attention_mask[None] if attention_mask.ndim == 1 else attention_mask
            if mask.shape != ids.shape:
                raise ConfigError(
                    f"`attention_mask` must have the shape of `input_ids`, {tuple(ids.shape)}, got "
                    f"{tuple(mask.shape)}. Pass the output of the tokenizer."
                )
            self.mask = self.mask & (mask != 0)
        self._order: Tensor | None = None
        self.ids = ids * self.mask
        if bool((self.mask[:, 1:] > self.mask[:, :-1]).any()):  # padding before a character
            self._order = (~self.mask).long().argsort(dim=1, stable=True)
            self.ids = self.ids.gather(1, self._order)

    def restored(self, features: Tensor) -> Tensor:
        """Features (B, L, W) of `ids` at the positions of `input_ids`."""
        if self._order is None:
            return features
        index = self._order.argsort(dim=1)[..., None].expand(-1, -1, features.shape[-1])
        return features.gather(1, index)


def in_windows(encoder: Callable[[Tensor], Tensor], ids: Tensor, window: int | None, causal: bool) -> Tensor:
    """The features (B, L, W) of `ids` (B, L), PAD after the text, as `TextReader` joins them.

    Args:
        encoder: maps ids (B, L) to features (B, L, W).
        ids: the batch.
        window: ids per window. A longer text is read in windows that overlap by half: an id has the mean of its
            features or, if causal, those from its earliest window. None reads whole texts.
        causal: whether the features of each id depend only on it and earlier ids.
    """
    if window is None or ids.shape[1] <= window:
        return encoder(ids)
    lengths = (ids != PAD).sum(1).tolist()
    overlap = window - max(1, window // 2)
    windows = [piece for row, length in enumerate(lengths) for piece in split(length, window, overlap, row)]
    stacked = ids.new_zeros(max(1, len(windows)), window)
    for target, piece in zip(stacked, windows, strict=False):
        target[: piece.size] = ids[piece.text, piece.start : piece.stop]
    features = encoder(stacked)
    sums = features.new_zeros(*ids.shape, features.shape[-1])
    counts = features.new_zeros(*ids.shape, 1)
    for read, piece in zip(features, windows, strict=False):
        first = piece.first if causal else piece.start
        sums[piece.text, first : piece.stop] += read[first - piece.start : piece.size]
        counts[piece.text, first : piece.stop] += 1
    return sums / counts.clamp(min=1)
