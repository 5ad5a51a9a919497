"""Batches of Hugging Face models, for encoders that read padding after the text only."""

from torch import Tensor

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
