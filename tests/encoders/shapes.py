"""Every encoder of the catalogue as small as can be, and texts for it."""

import torch

from cclm_core.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.attention import AttentionConfig
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.config import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.convolution import ConvolutionConfig
from cclm_core.random import seeded_initialisation
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


def embedder(config: EncoderConfig, seed: int = 1) -> Embedder:
    """A base with this encoder over the letters."""
    shape = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=config)
    with seeded_initialisation(seed):
        return Embedder(Preprocessor(alphabet=LETTERS), shape).eval()


def text(length: int, seed: int = 0) -> torch.Tensor:
    """Ids (1, length) of letters, spaces among them."""
    drawn = torch.randint(0, len(LETTERS), (1, length), generator=torch.Generator().manual_seed(seed))
    return drawn + 260
