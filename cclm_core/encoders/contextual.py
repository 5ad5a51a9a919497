"""The contextual encoder: a text is encoded together with other texts of its author or group."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder, at_least_float32
from cclm_core.encoders.contexts import ContextType
from cclm_core.encoders.hourglass import Hourglass, HourglassConfig
from cclm_core.encoders.linear import Linear
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError

_MASKED = -1e9


class ContextualConfig(Config):
    """An hourglass that also reads contexts: other texts of the same author or group.

    ```
    bi_encoder      one hourglass for the text, a smaller one for contexts; the result of a context can be reused
    batch_encoder   one hourglass for both; the result of a context can be reused
    hierarchical    one hourglass; the texts exchange summaries between its layers
    ```
    """

    learning_rate: ClassVar[float] = 4e-3
    kind: Literal["contextual"] = "contextual"
    architecture: Literal["bi_encoder", "batch_encoder", "hierarchical"] = Field(
        default="bi_encoder", description="how the text and its contexts are encoded"
    )
    combine: Literal["sum", "concatenation", "attention"] = Field(
        default="attention", description="how the text reads its contexts: their mean added or appended, or attention"
    )
    kernel_size: int = Field(default=7, ge=1, le=1023, description="kernel of the convolutions, an odd number")
    stride: int = Field(default=4, ge=1, le=16, description="characters per position of the transformer")
    core_width: int = Field(default=192, ge=16, le=8192, description="features per position")
    num_layers: int = Field(default=2, ge=1, le=128, description="transformer layers; hierarchical needs 2 or more")
    num_context_layers: int = Field(default=1, ge=1, le=128, description="bi_encoder: layers of the context encoder")
    num_heads: int = Field(default=4, ge=1, le=256, description="attention heads")
    author_heads: int = Field(default=1, ge=0, description="heads that are active only for contexts of the author")
    group_heads: int = Field(default=1, ge=0, description="heads that are active only for contexts of the group")
    width: int = Field(default=128, ge=8, le=8192, description="features per character, and per context")
    causal: Literal[False] = Field(default=False, description="contextual encoders are bidirectional")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.hourglass(self.num_layers)
        if self.author_heads + self.group_heads > self.num_heads:
            raise ValueError(
                f"author_heads + group_heads must be at most num_heads = {self.num_heads}, got "
                f"{self.author_heads} + {self.group_heads}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width must be divisible by num_heads = {self.num_heads}, got {self.width}")
        if self.architecture == "hierarchical" and self.num_layers < 2:
            raise ValueError("hierarchical needs num_layers of 2 or more: texts exchange summaries between layers")
        return self

    def hourglass(self, num_layers: int) -> HourglassConfig:
        """The hourglass inside, with `num_layers` layers."""
        shared = {name: getattr(self, name) for name in ("kernel_size", "stride", "core_width", "num_heads", "width")}
        return HourglassConfig(num_layers=num_layers, **shared)

    def build(self, input_width: int) -> "Contextual":
        """Builds an encoder of features (B, L, input_width)."""
        return Contextual(input_width, self)


class ContextFeatures(NamedTuple):
    """The contexts of a batch as an encoder reads them.

    Attributes:
        features: (B, C, L, D_in), or None with `encodings`.
        mask: (B, C, L) bool, true at characters; None with `encodings`.
        encodings: (B, C, W) of earlier calls of `Contextual.encode_contexts`, or None.
        present: (B, C) bool.
        types: (B,) int64, see `ContextType`; None activates all heads.
    """

    features: Tensor | None
    mask: Tensor | None
    encodings: Tensor | None
    present: Tensor
    types: Tensor | None


class Contextual(Encoder):
    """Encodes (B, L, D_in) as (B, L, width), and reads up to C contexts per text.

    Without contexts, the text reads a learned null context, so the result with C = 0, with contexts that are all
    absent, and without contexts is the same. Attention heads belong to contexts of the author, of the group, or to
    all; the heads that do not fit the type of the contexts have an output of 0.

    Source: context-aware masked language modeling, https://github.com/rbroc/ctx_transformers, at the level of
    characters, with masked means in place of [CLS] tokens.
    """

    reads_contexts = True

    def __init__(self, input_width: int, config: ContextualConfig) -> None:
        super().__init__()
        self.config, self.width, self.causal = config, config.width, False
        self.text_encoder = Hourglass(input_width, config.hourglass(config.num_layers))
        if config.architecture == "bi_encoder":
            self.context_encoder = Hourglass(input_width, config.hourglass(config.num_context_layers))
        self.context_norm = nn.LayerNorm(config.width)
        is_hierarchical = config.architecture == "hierarchical"
        width, number = (config.core_width, config.num_layers - 1) if is_hierarchical else (config.width, 1)
        self.combinations = nn.ModuleList(_combination(config, width) for _ in range(number))
        if is_hierarchical:
            exchanges = [Linear(width, width, bias=False) for _ in range(number)]
            for exchange in exchanges:
                nn.init.normal_(exchange.weight, std=width**-0.5)
            self.exchanges = nn.ModuleList(exchanges)

    def forward(
        self, features: Tensor, mask: Tensor, starts: Tensor | None = None, contexts: ContextFeatures | None = None
    ) -> Tensor:
        """Encodes `features` (B, L, D_in) as (B, L, width); see `Encoder.forward`.

        Raises:
            ConfigError: encodings for the hierarchical architecture, in which contexts depend on the text.
        """
        if len(features) == 0 or features.shape[1] == 0:
            encoded: Tensor = self.text_encoder(features, mask, starts)
            return encoded
        if self.config.architecture == "hierarchical":
            return self._hierarchical(features, mask, contexts)
        encodings, present, gates = self._encoded(features, contexts)
        own = self.text_encoder(features, mask, starts)
        kind = self.context_norm.weight.dtype
        combined: Tensor = self.combinations[0](own.to(kind), encodings.to(kind), present, gates)
        return at_least_float32(combined) * mask[..., None]

    def encode_contexts(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encodes N contexts (N, L, D_in) as (N, width), each on its own; zeros for an empty one."""
        if features.shape[1] == 0:
            return at_least_float32(self.context_norm.weight.new_zeros(len(features), self.width))
        if self.config.architecture == "hierarchical":
            characters = self._hierarchical(features, mask, None)
        else:
            encoder = self.context_encoder if self.config.architecture == "bi_encoder" else self.text_encoder
            characters = encoder(features, mask)
        return self._pooled(characters, mask)

    def encodings_by_group(self, encodings: Tensor, present: Tensor, types: Tensor | None) -> dict[str, Tensor]:
        """What a text reads from its contexts: by name, (B, W').

        ```
        all             the mean of the contexts                        W = width
        author          the heads for contexts of the author            with combine: attention; 0 for other types
        group           the heads for contexts of the group             likewise
        shared          the heads for all contexts
        ```

        Args:
            encodings: (B, C, width), from `encode_contexts`.
            present: (B, C) bool.
            types: (B,) int64, see `ContextType`; None activates all heads.
        """
        mean = _mean(encodings, present)
        outputs = {"all": mean}
        combination = self.combinations[0]
        if isinstance(combination, _Attention) and self.config.architecture != "hierarchical":
            heads = combination.read(mean) * self._gates(len(mean), present, types)[..., None]
            edges = (0, self.config.author_heads, self.config.author_heads + self.config.group_heads, heads.shape[1])
            for name, start, stop in zip(("author", "group", "shared"), edges[:-1], edges[1:], strict=True):
                outputs[name] = heads[:, start:stop].flatten(1)
        return outputs

    def _encoded(self, features: Tensor, contexts: ContextFeatures | None) -> tuple[Tensor, Tensor, Tensor]:
        """Encodings (B, C, W), `present` (B, C) and gates (B, H) of the contexts."""
        rows = len(features)
        if contexts is None:
            empty = features.new_zeros(rows, 0, self.width)
            present = torch.zeros(rows, 0, dtype=torch.bool, device=features.device)
            return empty, present, self._gates(rows, present, None)
        encodings = contexts.encodings
        if encodings is None:
            assert contexts.features is not None and contexts.mask is not None
            flat = self.encode_contexts(contexts.features.flatten(0, 1), contexts.mask.flatten(0, 1))
            encodings = flat.view(rows, -1, self.width)
        elif encodings.shape[-1] != self.width:
            raise ConfigError(f"encodings of contexts must have {self.width} features, got {encodings.shape[-1]}.")
        return encodings, contexts.present, self._gates(rows, contexts.present, contexts.types)

    def _gates(self, rows: int, present: Tensor, types: Tensor | None) -> Tensor:
        """(B, H): 1 for the heads that are active."""
        author, group = self.config.author_heads, self.config.group_heads
        has_contexts = present.any(-1)
        for_author = for_group = has_contexts
        if types is not None:
            for_author = has_contexts & (types.to(present.device) == ContextType.AUTHOR)
            for_group = has_contexts & (types.to(present.device) == ContextType.GROUP)
        shared = torch.ones(rows, self.config.num_heads - author - group, device=present.device)
        own = for_author[:, None].expand(-1, author), for_group[:, None].expand(-1, group)
        return torch.cat([*(gate.to(shared.dtype) for gate in own), shared], dim=1)

    def _pooled(self, characters: Tensor, mask: Tensor) -> Tensor:
        """The normalized mean (N, W) of `characters` (N, L, W); zeros for an empty text."""
        pooled = self.context_norm(_mean(characters, mask).to(self.context_norm.weight.dtype))
        return at_least_float32(pooled) * mask.any(-1, keepdim=True)

    def _hierarchical(self, features: Tensor, mask: Tensor, contexts: ContextFeatures | None) -> Tensor:
        """Encodes the texts and their contexts as rows that exchange summaries between the layers."""
        rows = len(features)
        if contexts is not None and contexts.features is None:
            raise ConfigError(
                "the hierarchical architecture cannot reuse encodings of contexts, because they depend on the text. "
                "Pass the ids of the contexts, or use bi_encoder or batch_encoder."
            )
        if contexts is None or contexts.present.shape[1] == 0:
            present = torch.zeros(rows, 0, dtype=torch.bool, device=features.device)
            every, masks, gates = features[:, None], mask[:, None], self._gates(rows, present, None)
        else:
            assert contexts.features is not None and contexts.mask is not None
            present, gates = contexts.present, self._gates(rows, contexts.present, contexts.types)
            length = max(mask.shape[1], contexts.mask.shape[2])
            every = torch.cat(
                [_widened(features[:, None], length, 2), _widened(contexts.features.to(features.dtype), length, 2)], 1
            )
            masks = torch.cat([_widened(mask[:, None], length, 2), _widened(contexts.mask, length, 2)], 1)
        between = partial(self._exchange, rows=rows, present=present, gates=gates)
        encoded = self.text_encoder(every.flatten(0, 1), masks.flatten(0, 1), between=between)
        target: Tensor = encoded.view(rows, -1, *encoded.shape[1:])[:, 0, : mask.shape[1]]
        return target

    def _exchange(
        self, number: int, positions: Tensor, valid: Tensor, *, rows: int, present: Tensor, gates: Tensor
    ) -> Tensor:
        """Adds to `positions` (B (1 + C), P, D), after layer `number`, what each row reads from the contexts."""
        if number >= len(self.combinations):
            return positions
        summaries = _mean(positions, valid).to(positions.dtype).view(rows, -1, positions.shape[-1])
        combined = self.combinations[number](summaries, summaries[:, 1:], present, gates)
        added: Tensor = positions + self.exchanges[number](combined.flatten(0, 1).to(positions.dtype))[:, None]
        return added


class _MeanOfContexts(nn.Module):
    """Adds or appends the mean of the contexts to each position.

    Args:
        width: W.
        appends: whether the mean is appended, not added.
    """

    def __init__(self, width: int, appends: bool) -> None:
        super().__init__()
        self.appends = appends
        self.null = nn.Parameter(torch.zeros(width))
        self.context_norm = nn.LayerNorm(width)
        self.inner = Linear(2 * width if appends else width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, texts: Tensor, contexts: Tensor, present: Tensor, gates: Tensor) -> Tensor:  # noqa: ARG002
        """Combines `texts` (B, L, W) with `contexts` (B, C, W)."""
        mean = torch.where(present.any(-1, keepdim=True), _mean(contexts, present).to(texts.dtype), self.null)
        context = self.context_norm(mean)[:, None].expand_as(texts)
        inputs = torch.cat([texts, context], -1) if self.appends else texts + context
        combined: Tensor = self.norm(texts + torch.relu(self.inner(inputs)))
        return combined


class _Attention(nn.Module):
    """Each position attends to the contexts and to a learned null context.

    Gates act on the output of each head, which is the same as masking its probabilities.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width, bias=False)
        self.null = nn.Parameter(torch.zeros(width))
        self.out = Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, texts: Tensor, contexts: Tensor, present: Tensor, gates: Tensor) -> Tensor:
        """Combines `texts` (B, L, W) with `contexts` (B, C, W); `gates` (B, H)."""
        rows = len(texts)
        every = torch.cat([self.null.to(texts.dtype).expand(rows, 1, -1), contexts], 1)
        visible = torch.cat([present.new_ones(rows, 1), present], 1)
        query, key, value = (
            layer(inputs).view(rows, -1, self.num_heads, layer.out_features // self.num_heads).transpose(1, 2)
            for layer, inputs in ((self.query, texts), (self.key, every), (self.value, every))
        )
        scores = at_least_float32(query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        weights = torch.softmax(scores.masked_fill(~visible[:, None, None], _MASKED), dim=-1)
        mixed = (weights.to(value.dtype) @ value) * gates[:, :, None, None].to(value.dtype)
        combined: Tensor = self.norm(texts + self.out(mixed.transpose(1, 2).flatten(2)))
        return combined

    def read(self, context: Tensor) -> Tensor:
        """What the heads read from one context (B, W): (B, H, W / H)."""
        heads: Tensor = self.value(context.to(self.norm.weight.dtype)).view(len(context), self.num_heads, -1)
        return heads


def _combination(config: ContextualConfig, width: int) -> nn.Module:
    if config.combine == "attention":
        return _Attention(width, config.num_heads)
    return _MeanOfContexts(width, appends=config.combine == "concatenation")


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    """The mean (N, W) of `features` (N, L, W) where `mask` (N, L) is true; zeros where it never is."""
    keep = mask[..., None]
    return at_least_float32(features.masked_fill(~keep, 0)).sum(1) / keep.sum(1).clamp(min=1)


def _widened(tensor: Tensor, length: int, dimension: int) -> Tensor:
    """`tensor` with zeros appended along a dimension up to `length`."""
    padding = [0, 0] * (tensor.ndim - 1 - dimension) + [0, length - tensor.shape[dimension]]
    return nn.functional.pad(tensor, padding)
