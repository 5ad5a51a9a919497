"""Every encoder of the catalogue as small as can be, texts for it, and what it sees of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cclm_core.encoders.attention import AttentionConfig
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.config import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.convolution import ConvolutionConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.random import seeded_initialisation
from cclm_core.text.vocabulary import Preprocessor

LETTERS = "abcdefghij klmnopqrst.'"
SMALL = HourglassConfig(core_width=32, num_layers=1, num_heads=2, width=24)
ATTENTION = AttentionConfig(num_layers=2, num_heads=2, width=24)
CONVOLUTION = ConvolutionConfig(num_blocks=5, width=24, global_width=8)


def hourglass(stride: int | str, causal: bool) -> HourglassConfig:
    return HourglassConfig.model_validate(SMALL.model_dump() | {"stride": stride, "causal": causal})


CONFIGS: dict[str, EncoderConfig] = {
    **{f"hourglass-{stride}": hourglass(stride, False) for stride in (1, 2, 4, 8, "word")},
    "convolution": CONVOLUTION,
    "convolution-without-broadcast": CONVOLUTION.model_copy(update={"global_width": 0}),
    "attention": ATTENTION,
    "attention-local": ATTENTION.model_copy(update={"window": 6}),
}
CAUSAL: dict[str, EncoderConfig] = {
    **{f"causal-hourglass-{stride}": hourglass(stride, True) for stride in (1, 2, 4, 8, "word")},
    "causal-convolution": CONVOLUTION.model_copy(update={"global_width": 0, "causal": True}),
    "causal-attention": ATTENTION.model_copy(update={"causal": True}),
    "causal-attention-local": ATTENTION.model_copy(update={"window": 6, "causal": True}),
}
REACH = {"causal-hourglass-word": 12, "causal-convolution": 30, "causal-attention-local": 10}
"""How far back a character sees for certain, where that is not to the beginning: in layers times what one adds. Words
see further, but of a long word's beginning only its first character."""


def embedder(config: EncoderConfig, seed: int = 1) -> Embedder:
    """A base with this encoder over the letters."""
    shape = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=config)
    with seeded_initialisation(seed):
        return Embedder(Preprocessor(alphabet=LETTERS), shape).eval()


def seen(encoder: Callable[[Tensor], Tensor], embedding: CharacterEmbedding, ids: Tensor) -> Tensor:
    """How strongly the features at each place of the text `ids` (1, L) depend on the embedding at each: (L, L).

    Row t has the largest gradient of a random direction of the features at t, by place; exactly 0 where there is none.
    """
    embedded = []

    def hold(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = embedding.register_forward_hook(hold)
    features = encoder(ids)
    handle.remove()
    directions = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    told = (features * directions).sum(-1)[0]
    rows = [torch.autograd.grad(one, embedded[0], retain_graph=True)[0][0].abs().amax(-1) for one in told]
    return torch.stack(rows)


def text(length: int, seed: int = 0) -> torch.Tensor:
    """Ids (1, length) of letters, spaces among them."""
    drawn = torch.randint(0, len(LETTERS), (1, length), generator=torch.Generator().manual_seed(seed))
    return drawn + 260
