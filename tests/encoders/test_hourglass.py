"""The hourglass and the character embedding, beyond the contract of encoders."""

import pytest
import torch

from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import seeded_initialization


class Encoder(torch.nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        with seeded_initialization(1):
            self.embedding = CharacterEmbedding(50, EmbeddingConfig(width=16, ngram_buckets=64))
            config = HourglassConfig(stride=stride, core_width=32, num_layers=2, num_heads=2, width=24)
            self.hourglass = config.build(16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.hourglass(self.embedding(ids), ids != 0)
        return features


@pytest.fixture(params=[1, 2, 4, 8])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder(request.param).eval()


def text(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, 50, (1, length), generator=torch.Generator().manual_seed(seed))


def test_every_character_affects_every_position(encoder: Encoder) -> None:
    ids = text(40)
    for position in (0, 21, 39):
        changed = ids.clone()
        changed[0, position] = 4 + (ids[0, position] - 3) % 46
        difference = (encoder(changed) - encoder(ids)).abs().amax(-1)[0]
        assert (difference > 0).all()


def test_order_matters() -> None:
    encoder = Encoder(4).eval()
    ids = text(16)
    swapped = ids[:, [1, 0, *range(2, 16)]]
    assert not torch.allclose(encoder(ids).mean(1), encoder(swapped).mean(1), atol=1e-4)


def test_the_weights_of_the_default_keep_their_names_and_order() -> None:
    """Saved bases use these names, and initial weights are drawn in this order."""
    layer = ("attention_norm.weight", "attention_norm.bias", "query_key_value.weight", "attention_out.weight")
    layer += ("feed_forward_norm.weight", "feed_forward_norm.bias", "feed_forward_in.weight", "feed_forward_out.weight")
    mixing = ("norm.weight", "norm.bias", "depthwise.weight", "depthwise.bias", "pointwise.weight")
    assert list(HourglassConfig().build(16).state_dict()) == [
        *(f"before.{name}" for name in mixing),
        "down.weight",
        *(f"layers.{number}.{name}" for number in range(4) for name in layer),
        *("core_norm.weight", "core_norm.bias", "up.weight", "skip.weight"),
        *(f"after.{name}" for name in mixing),
        *("norm.weight", "norm.bias"),
    ]


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (HourglassConfig, {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        (
            HourglassConfig,
            {"core_width": 30, "num_heads": 4},
            r"core_width must be divisible by 2 \* num_heads = 8 .* got 30",
        ),
        (EmbeddingConfig, {"ngram_sizes": [1]}, "ngram_sizes must be between 2 and 8"),
        (HourglassConfig, {"strid": 4}, "did you mean 'stride'"),
    ],
)
def test_invalid_settings_are_refused(config: type[Config], values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.parse(values, "encoder")
