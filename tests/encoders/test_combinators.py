"""Encoders that combine others: what they compute, and what is refused."""

import pytest
import torch

from cclm_core.encoders import EmbedderConfig
from cclm_core.encoders.base import Encoder
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import seeded_initialization
from tests.encoders.shapes import small_parts

FIRST, SECOND = small_parts()


def built(value: dict[str, object], width: int = 16) -> Encoder:
    with seeded_initialization(3):
        encoder: Encoder = EmbedderConfig.model_validate({"encoder": value}).encoder.build(width)
    return encoder.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1))
    return features, torch.arange(9)[None] < torch.tensor([[9], [5]])


def test_each_combination_computes_what_its_name_says() -> None:
    features, mask = inputs()
    for kind in ("add", "concatenate"):
        encoder = built({"kind": kind, "parts": [FIRST, SECOND]})
        left, right = (part(features, mask) for part in encoder.parts)
        expected = left + right if kind == "add" else torch.cat([left, right], -1)
        assert torch.equal(encoder(features, mask), expected)
        assert encoder.width == (24 if kind == "add" else 48)
    chain = built({"kind": "chain", "parts": [SECOND, FIRST]})
    assert torch.equal(chain(features, mask), chain.parts[1](chain.parts[0](features, mask), mask))
    residual = built({"kind": "residual", "part": SECOND}, width=16)
    direct = residual.shortcut(features * mask[..., None])
    torch.testing.assert_close(residual(features, mask), residual.parts[0](features, mask) + direct)


def test_a_residual_of_equal_width_has_no_weights_of_its_own() -> None:
    encoder = built({"kind": "residual", "part": {**SECOND, "width": 16}})
    assert encoder.shortcut is None


def test_a_combination_is_causal_if_all_parts_are() -> None:
    causal, bidirectional = small_parts(causal=True, global_width=0)[1], small_parts()[1]
    assert built({"kind": "chain", "parts": [causal, causal]}).causal
    assert not built({"kind": "chain", "parts": [causal, bidirectional]}).causal


def test_a_combination_learns_at_the_lowest_rate_of_its_parts() -> None:
    config = EmbedderConfig.model_validate({"encoder": {"kind": "add", "parts": [FIRST, SECOND]}}).encoder
    assert config.learning_rate == 1e-3
    assert EmbedderConfig.model_validate({"encoder": config.canonical()}).encoder == config


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"kind": "add", "parts": [FIRST, {**SECOND, "width": 32}]}, r"add needs parts of equal width, got \[24, 32\]"),
        ({"kind": "chain", "parts": []}, r"encoder\.parts"),
        ({"kind": "chain"}, r"encoder\.parts is missing"),
        ({"kind": "residual", "part": {"kind": "convolutoin"}}, "did you mean 'convolution'"),
        ({"kind": "chain", "parts": [{"kind": "hourglass", "widht": 8}]}, r"parts\.0\.widht .* did you mean 'width'"),
    ],
)
def test_a_wrong_combination_is_refused(encoder: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbedderConfig.parse({"encoder": encoder}, "embedder")
