"""Small encoders of every kind, texts for them, and which characters they see."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cclm_core.encoders import (
    AttentionConfig,
    Embedder,
    EmbedderConfig,
    EmbeddingConfig,
    EncoderConfig,
    HourglassConfig,
)
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor
from tests.catalogues import members, tag

LETTERS = "abcdefghij klmnopqrst.'"
SMALL = HourglassConfig(core_width=32, num_layers=1, num_heads=2, width=24)
ATTENTION = AttentionConfig(num_layers=2, num_heads=2, width=24)

SIZES = {"width": 24, "core_width": 32, "num_heads": 2, "num_layers": 1, "num_blocks": 5, "global_width": 8}
"""Small sizes, for those fields that an encoder has."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "hourglass": {f"-{stride}": {"stride": stride} for stride in (1, 2, 4, 8, "word")},
    "convolution": {"": {}, "-without-broadcast": {"global_width": 0}},
    "attention": {"": {"num_layers": 2}, "-local": {"num_layers": 2, "window": 6}},
    "contextual": {
        f"-{name}": {"architecture": name, "num_layers": 2, "author_heads": 0}
        for name in ("bi_encoder", "batch_encoder", "hierarchical")
    },
}
"""Tested settings, by kind and name. An encoder that is not listed is tested with its defaults."""

BIDIRECTIONAL = ("contextual",)
"""Encoders without a causal variant."""


def configs(prefix: str, **changes: Any) -> dict[str, EncoderConfig]:
    """Every encoder of the catalogue with each of its settings, small and without duplicates."""
    unique: dict[str, EncoderConfig] = {}
    for member in members(EncoderConfig):
        for name, settings in SETTINGS.get(tag(member), {"": {}}).items():
            if changes.get("causal") and tag(member) in BIDIRECTIONAL:
                continue
            values = {**SIZES, **settings, **changes}
            config: Any = member(**{field: value for field, value in values.items() if field in member.model_fields})
            if config not in unique.values():
                unique[f"{prefix}{tag(member)}{name}"] = config
    return unique


CONFIGS = configs("")
CAUSAL = configs("causal-", causal=True, global_width=0)  # a causal convolution has no broadcast
MIN_CONTEXT = {"causal-hourglass-word": 12, "causal-convolution": 30, "causal-attention-local": 10}
"""Number of earlier characters that each character sees at least, for encoders that do not see the whole beginning. An
hourglass over words sees further back, but only the first character of a long word."""


def embedder(config: EncoderConfig, seed: int = 1) -> Embedder:
    """An embedder with this encoder over LETTERS."""
    architecture = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=config)
    with seeded_initialization(seed):
        return Embedder(Preprocessor(alphabet=LETTERS), architecture).eval()


def sensitivity(encoder: Callable[[Tensor], Tensor], embedding: CharacterEmbedding, ids: Tensor) -> Tensor:
    """How strongly the features at each position of `ids` (1, L) depend on the embedding at each position: (L, L).

    Row t contains the largest gradient of a random projection of the features at t; exactly 0 without a dependency.
    """
    embedded = []

    def capture(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = embedding.register_forward_hook(capture)
    features = encoder(ids)
    handle.remove()
    directions = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    projections = (features * directions).sum(-1)[0]
    gradients = [torch.autograd.grad(value, embedded[0], retain_graph=True)[0][0] for value in projections]
    return torch.stack([gradient.abs().amax(-1) for gradient in gradients])


def text(length: int, seed: int = 0) -> torch.Tensor:
    """Ids (1, length) of random letters, including spaces."""
    letters = torch.randint(0, len(LETTERS), (1, length), generator=torch.Generator().manual_seed(seed))
    return letters + 260
