"""A local transformers checkpoint as an embedding: the features of each word piece at each of its characters."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from tokenizers import Encoding
from torch import Tensor, nn

from cclm_core.encoders.base import at_least_float32
from cclm_core.encoders.pretrained.base import PretrainedConfig, PretrainedEmbedding, not_compiled
from cclm_core.encoders.pretrained.checkpoint_files import Checkpoint, build_model, max_tokens, num_layers
from cclm_core.encoders.pretrained.rows import TextRows
from cclm_core.encoders.pretrained.windows import Shares, shares_of, split_text
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.extras import require

_BATCH_TOKENS = 8192  # tokens per forward pass, including padding, unless a single window is longer


class HuggingFaceConfig(PretrainedConfig):
    """A transformers checkpoint: config.json, tokenizer.json and model.safetensors in one folder."""

    kind: Literal["huggingface"] = "huggingface"
    layers: Literal["last"] | tuple[int, ...] = Field(
        default="last",
        description="the last layer, or the mean of several: 0 for the embeddings, 1 for the first layer, -1 for the "
        "last one",
    )
    trained: bool = Field(default=False, description="whether its weights are trained with the model it belongs to")
    rate_factor: float = Field(
        default=0.02, gt=0, le=1, description="if trained: factor of the learning rate for its weights"
    )
    window: int = Field(default=512, ge=16, le=65536, description="characters per window; longer texts have several")
    overlap: int = Field(default=128, ge=0, description="characters that adjacent windows share, at most half a window")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap > self.window // 2:
            raise ValueError(f"overlap must be at most half of the window of {self.window}, got {self.overlap}")
        if self.layers == ():
            raise ValueError("layers must be `last` or a list of at least one layer, got []")
        return self

    @property
    def is_trained(self) -> bool:
        """Whether its weights are trained."""
        return self.trained

    def open(self) -> "tuple[Self, HuggingFaceEmbedding]":
        """See `PretrainedConfig.open`."""
        require("transformers", "huggingface")
        checkpoint = Checkpoint.open(str(self.source))
        digest = self.checked(checkpoint.digest())
        embedding = HuggingFaceEmbedding(self, checkpoint, checkpoint.read_model())
        update = {"source": None, "sha256": digest, "width": embedding.width}
        return self.model_copy(update=update), embedding

    def load(self, folder: Path) -> "HuggingFaceEmbedding":
        """See `PretrainedConfig.load`."""
        require("transformers", "huggingface")
        checkpoint = Checkpoint(folder)
        return HuggingFaceEmbedding(self, checkpoint, build_model(checkpoint))

    def digest(self) -> str:
        """See `PretrainedConfig.digest`."""
        return Checkpoint.open(str(self.source)).digest()


class _Window(NamedTuple):
    """The tokens of one window; `start` is its first character among those of all texts."""

    start: int
    size: int
    tokens: Encoding


class HuggingFaceEmbedding(PretrainedEmbedding):
    """Copies the hidden states of each token to the characters that it covers.

    A character of several tokens gets their mean. Characters between tokens, such as spaces, get zeros. A text longer
    than the window is read in overlapping windows, and a character gets the mean of its windows. A window with more
    tokens than the checkpoint has positions is divided, so nothing is cut off. Special tokens that occur in the text,
    such as `[MASK]`, are read as text.

    Dropout is off, also while the weights are trained. Weights that are not trained are buffers: they get no gradient
    whatever the model around them does.

    Args:
        config: layers and windows.
        checkpoint: the files of the tokenizer and the architecture.
        model: the model of transformers, with or without its weights.

    Raises:
        ConfigError: a layer does not exist.
    """

    def __init__(self, config: HuggingFaceConfig, checkpoint: Checkpoint, model: nn.Module) -> None:
        super().__init__()
        self.config, self.width, self.rate_factor = config, checkpoint.width, config.rate_factor
        self._files = checkpoint.contents()
        self._tokenizer = checkpoint.tokenizer()
        self._padding = checkpoint.padding
        self._max_tokens = max_tokens(model)
        self._layers = _checked_layers(config, num_layers(model))
        self.model = model.eval()
        if not config.trained:
            _fix_weights(self.model)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode, except that of the checkpoint, whose dropout stays off."""
        super().train(mode)
        self.model.eval()
        return self

    def write_files(self, folder: Path) -> None:
        """Writes config.json and tokenizer.json."""
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    @not_compiled
    def forward(self, rows: TextRows) -> Tensor:
        """Features (B, L, width); see the class."""
        device = rows.owners.device
        features = torch.zeros(rows.num_characters, self.width, device=device)
        windows = self._windows(rows.texts)
        repeats = np.zeros(rows.num_characters, dtype=np.int64)
        for window in windows:
            repeats[window.start : window.start + window.size] += 1
        for batch in _batches(windows):
            hidden = self._hidden(batch, device)
            shares = _shares(batch, repeats)
            index = torch.from_numpy(shares.characters).to(device)
            weights = torch.from_numpy(shares.weights).to(device, hidden.dtype)
            values = hidden[torch.from_numpy(shares.tokens).to(device)] * weights[:, None]
            features = features.to(hidden.dtype).index_add(0, index, values)
        return rows.spread(features)

    def _hidden(self, batch: Sequence[_Window], device: torch.device) -> Tensor:
        """The hidden states (T, width) of the tokens of all windows, in order."""
        sizes = [len(window.tokens.ids) for window in batch]
        ids = np.full((len(batch), max(sizes)), self._padding, dtype=np.int64)
        mask = np.arange(max(sizes)) < np.array(sizes)[:, None]
        ids[mask] = np.concatenate([window.tokens.ids for window in batch])
        is_token = torch.from_numpy(mask).to(device)
        output = self.model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=is_token.long(),
            output_hidden_states=self._layers is not None,
        )
        if self._layers is None:
            states: Tensor = output.last_hidden_state
        else:
            states = torch.stack([at_least_float32(output.hidden_states[layer]) for layer in self._layers]).mean(0)
        return at_least_float32(states)[is_token]

    def _windows(self, texts: Sequence[str]) -> list[_Window]:
        """The windows of all texts, tokenized; those with the most tokens first."""
        windows: list[_Window] = []
        first = 0
        for text in texts:
            pieces = split_text(text, self.config.window, self.config.overlap)
            encoded = self._tokenizer.encode_batch([text[start:stop] for start, stop in pieces])
            for (start, stop), tokens in zip(pieces, encoded, strict=True):
                windows += self._divided(text[start:stop], first + start, tokens)
            first += len(text)
        return sorted(windows, key=lambda window: (-len(window.tokens.ids), window.start))

    def _divided(self, text: str, start: int, tokens: Encoding) -> Iterator[_Window]:
        """A window, or parts of it that have no more tokens than the checkpoint has positions."""
        if self._max_tokens is None or len(tokens.ids) <= self._max_tokens:
            yield _Window(start, len(text), tokens)
            return
        if len(text) == 1:
            raise DataError(
                f"the character {text!r} has {len(tokens.ids)} tokens, but the checkpoint has {self._max_tokens} "
                "positions. Use another checkpoint."
            )
        middle = len(text) // 2
        for part, offset in ((text[:middle], 0), (text[middle:], middle)):
            yield from self._divided(part, start + offset, self._tokenizer.encode(part))


def _batches(windows: Sequence[_Window]) -> Iterator[Sequence[_Window]]:
    start = 0
    while start < len(windows):
        stop = start + max(1, _BATCH_TOKENS // max(1, len(windows[start].tokens.ids)))
        # A window without tokens, of a tokenizer without special tokens, has no features.
        yield from ([batch] if (batch := [w for w in windows[start:stop] if w.tokens.ids]) else [])
        start = stop


def _shares(batch: Sequence[_Window], repeats: Any) -> Shares:
    sizes = np.array([len(window.tokens.ids) for window in batch])
    spans = np.concatenate([np.array(window.tokens.offsets, dtype=np.int64) for window in batch])
    is_special = np.concatenate([window.tokens.special_tokens_mask for window in batch]).astype(bool)
    spans[is_special] = 0
    starts = np.array([window.start for window in batch])
    return shares_of(spans, np.repeat(np.arange(len(batch)), sizes), starts, repeats)


def _checked_layers(config: HuggingFaceConfig, number: int) -> tuple[int, ...] | None:
    """The numbers of the layers to average, from 0; None for the last one."""
    if config.layers == "last":
        return None
    for layer in config.layers:
        assert isinstance(layer, int)
        if not -number - 1 <= layer <= number:
            raise ConfigError(
                f"layers must be from 0 (the embeddings) to {number} or from -1 to {-number - 1}, got {layer}."
            )
    return tuple(int(layer) % (number + 1) for layer in config.layers)


def _fix_weights(model: nn.Module) -> None:
    """Turns parameters into buffers of the same names."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                del module._parameters[name]
                module.register_buffer(name, parameter.detach())
