"""The encoder: any length, no influence of padding or neighbours in the batch, every character counts."""

import pytest
import torch

from cclm_core.config import Config
from cclm_core.encoders.config import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.encoders.hourglass import Hourglass
from cclm_core.errors import ConfigError
from cclm_core.random import seeded_initialisation


class Encoder(torch.nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        with seeded_initialisation(1):
            self.embedding = CharacterEmbedding(50, EmbeddingConfig(width=16, ngram_buckets=64))
            config = HourglassConfig(stride=stride, core_width=32, num_layers=2, num_heads=2, width=24)
            self.hourglass = Hourglass(16, config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.hourglass(self.embedding(ids), ids != 0)
        return features


@pytest.fixture(params=[1, 2, 4, 8])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder(request.param).eval()


def text(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, 50, (1, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 33])
def test_any_length_comes_out_as_long_as_it_went_in(encoder: Encoder, length: int) -> None:
    features = encoder(text(length))
    assert features.shape == (1, length, 24)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("padding", [1, 3, 4, 50])
def test_padding_changes_nothing(encoder: Encoder, padding: int) -> None:
    ids = text(13)
    padded = torch.nn.functional.pad(ids, (0, padding))
    torch.testing.assert_close(encoder(padded)[:, :13], encoder(ids), atol=1e-5, rtol=1e-5)
    assert (encoder(padded)[:, 13:] == 0).all()


def test_neighbours_in_the_batch_change_nothing(encoder: Encoder) -> None:
    rows = torch.cat([text(12, seed) for seed in range(4)])
    together = encoder(rows)
    for number in range(4):
        torch.testing.assert_close(
            together[number : number + 1], encoder(rows[number : number + 1]), atol=1e-5, rtol=1e-5
        )


def test_an_empty_row_beside_a_full_one_stays_finite(encoder: Encoder) -> None:
    rows = torch.cat([text(12), torch.zeros(1, 12, dtype=torch.int64)])
    features = encoder(rows)
    assert torch.isfinite(features).all()
    assert (features[1] == 0).all()


def test_every_character_reaches_every_position(encoder: Encoder) -> None:
    ids = text(40)
    for changed in (0, 21, 39):
        other = ids.clone()
        other[0, changed] = 4 + (ids[0, changed] - 3) % 46
        moved = (encoder(other) - encoder(ids)).abs().amax(-1)[0]
        assert (moved > 0).all()


def test_order_matters() -> None:
    encoder = Encoder(4).eval()
    ids = text(16)
    swapped = ids[:, [1, 0, *range(2, 16)]]
    assert not torch.allclose(encoder(ids).mean(1), encoder(swapped).mean(1), atol=1e-4)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (HourglassConfig, {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        (HourglassConfig, {"core_width": 30, "num_heads": 4}, "core_width must be a multiple of twice num_heads"),
        (EmbeddingConfig, {"ngram_sizes": [1]}, "ngram_sizes must lie between 2 and 5"),
        (HourglassConfig, {"strid": 4}, "did you mean 'stride'"),
    ],
)
def test_impossible_shapes_are_refused(config: type[Config], values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.parse(values, "encoder")
