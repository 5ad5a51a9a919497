"""Small models for the tests of `cclm_core.huggingface`."""

import torch

from cclm_core.composition import Component, ComponentCard, ComposedModel
from cclm_core.encoders.attention import AttentionConfig
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.convolution import ConvolutionConfig
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor

TEXTS = ["To be, or not to be: that is the question.", "Mary Ann went to New York.", "naïve café", "a b\n\tc  d"]

HOURGLASS = HourglassConfig(core_width=16, num_layers=2, num_heads=2, width=12)
CAUSAL = HOURGLASS.model_copy(update={"causal": True})
ENCODERS: dict[str, EncoderConfig] = {
    "hourglass": HOURGLASS,
    "causal": CAUSAL,
    "word": HOURGLASS.model_copy(update={"stride": "word"}),
    "convolution": ConvolutionConfig(num_blocks=2, width=12, global_width=4),
    "attention": AttentionConfig(num_layers=1, num_heads=2, width=12),
    "local": AttentionConfig(num_layers=2, num_heads=2, width=12, window=4),
}


def vocabulary() -> Preprocessor:
    """The characters of `TEXTS` but é, which becomes bytes."""
    return Preprocessor().fit([text.replace("é", "") for text in TEXTS])


def embedder(kind: str = "hourglass", preprocessor: Preprocessor | None = None, seed: int = 1) -> Embedder:
    """An embedder with random weights."""
    config = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=ENCODERS[kind])
    with seeded_initialization(seed):
        return Embedder(preprocessor or vocabulary(), config)


def component(base: Base, name: str, kind: str = "attention", independent: bool = False, seed: int = 2) -> Component:
    """A component with random weights."""
    with seeded_initialization(seed):
        return Component(ComponentCard.over(base, name, "masked_characters", ENCODERS[kind], independent))


def compositions() -> dict[str, Base]:
    """One model of each kind that can be nested in another."""
    base = embedder()
    plain = ComposedModel(base, [component(base, "words"), component(base, "entities", "word")])
    own = ComposedModel(base, [component(base, "own", independent=True), component(base, "forked").fork(base)])
    over = ComposedModel(plain, [component(plain, "upper")], "tower")
    origin = "0" * 64
    same = []
    for name, seed in (("left", 5), ("right", 6)):
        part = component(base, name, seed=seed)
        part.card = part.card.model_copy(update={"origin": origin})
        same.append(part)
    models: dict[str, Base] = {"plain": plain, "own": own, "tower": over}
    for fusion in ("weighted_sum", "attention", "average"):
        with seeded_initialization(7):
            models[fusion] = ComposedModel(base, same, fusion, fusion)
        for weight in models[fusion].fusion.parameters():
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(3))
    models["base among the parts"] = ComposedModel(plain, {"below": plain, "upper": component(plain, "upper")})
    models["nested"] = ComposedModel(base, [plain, component(base, "last")], "nested")
    return models
