"""Encoders beyond the contract: invalid settings, context, memory."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from cclm_core.encoders import AttentionConfig, ConvolutionConfig, EmbedderConfig, HourglassConfig
from cclm_core.encoders.hourglass import Segments
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.training.config import ComponentConfig
from tests.encoders.shapes import ATTENTION, CONFIGS, LETTERS, embedder, text


def affected(window: int | None, causal: bool, position: int = 20) -> list[int]:
    """The positions, out of 40, whose output changes with the input at `position`, in one layer of attention."""
    config = ATTENTION.model_copy(update={"num_layers": 1, "window": window, "causal": causal})
    encoder = config.build(8).eval()
    features = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(1))
    changed = features.clone()
    changed[0, position] += 1
    mask = torch.ones(1, 40, dtype=torch.bool)
    difference = (encoder(features, mask) - encoder(changed, mask)).abs().amax(-1)[0]
    return (difference > 1e-7).nonzero().flatten().tolist()


def test_attention_covers_exactly_its_window() -> None:
    assert affected(6, causal=False) == list(range(17, 24))
    assert affected(6, causal=True) == list(range(20, 26))
    assert affected(None, causal=False) == list(range(40))
    assert affected(None, causal=True) == list(range(20, 40))


def test_a_window_as_long_as_the_text_is_full_attention() -> None:
    ids = text(13)
    wide = ATTENTION.model_copy(update={"window": 26})
    torch.testing.assert_close(embedder(wide)(ids), embedder(ATTENTION)(ids), atol=1e-5, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("causal", [False, True])
def test_local_attention_has_no_tensor_of_quadratic_size(causal: bool) -> None:
    length, config = 1024, AttentionConfig(num_layers=1, num_heads=2, width=16, causal=causal)
    features, mask = torch.zeros(1, length, 8), torch.ones(1, length, dtype=torch.bool)
    sizes = {}
    for window in (None, 16):
        with torch.no_grad(), Largest() as largest:
            config.model_copy(update={"window": window}).build(8)(features, mask)
        sizes[window] = largest.elements
    assert sizes[None] >= length * length
    assert sizes[16] <= length * 16 * 8


def test_the_broadcast_reaches_characters_far_away() -> None:
    ids = text(200)
    changed = ids.clone()
    changed[0, 0] = 260 + (ids[0, 0] - 259) % 10
    for name, is_reached in (("convolution", True), ("convolution-without-broadcast", False)):
        base = embedder(CONFIGS[name])
        difference = (base(ids) - base(changed)).abs().amax(-1)[0]
        assert (difference[150:] > 0).any().item() is is_reached


def test_the_default_convolution_has_the_sizes_of_the_original() -> None:
    encoder = ConvolutionConfig().build(128)
    assert len(encoder.blocks) == 5
    assert sum(parameter.numel() for parameter in encoder.parameters()) == pytest.approx(12e6, rel=0.05)


def test_segments_start_at_words_and_long_words_are_split() -> None:
    base = embedder(CONFIGS["hourglass-word"])
    ids = torch.from_numpy(base.preprocessor.encode(" to be.. abcdefghi 't").astype("int64"))[None]
    assert "t" in LETTERS and base.word_starts(ids).nonzero()[:, 1].tolist() == [1, 4, 9, 19]
    segments = Segments(base.word_starts(ids), ids != 0, max_length=6)
    # " ", "to ", "be.. ", "abcdef", "ghi ", "'t"
    assert (segments.offsets == 0).nonzero()[:, 1].tolist() == [0, 1, 4, 9, 15, 19]
    assert segments.valid.tolist() == [[True] * 6]
    features = torch.arange(21.0)[None, :, None]
    assert segments.pool(features, causal=False).flatten().tolist() == [0, 2, 6, 11.5, 16.5, 19.5]
    assert segments.pool(features, causal=True).flatten().tolist() == [0, 1, 3, 7, 12.5, 17.5]
    assert segments.upsample(torch.arange(6.0)[None, :, None]).flatten().tolist()[:10] == [0, 1, 1, 1, 2, 2, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (AttentionConfig, {"width": 30, "num_heads": 4}, r"width must be divisible by 2 \* num_heads = 8 .* got 30"),
        (AttentionConfig, {"window": 1}, "greater than or equal to 2"),
        (ConvolutionConfig, {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        (
            ConvolutionConfig,
            {"causal": True},
            "global_width must be 0 in a causal convolution, got 64: .* later ch",
        ),
        (HourglassConfig, {"stride": "words"}, "stride"),
        (EmbedderConfig, {"encoder": {"strid": 4}}, "encoder: encoder.strid is not a known key; did you mean 'stride'"),
        (EmbedderConfig, {"encoder": {"kind": "attention", "windo": 4}}, "did you mean 'window'"),
        (EmbedderConfig, {"encoder": {"kind": "attention", "stride": 4}}, "stride is not a known key"),
        (EmbedderConfig, {"encoder": {"kind": "lstm"}}, "encoder.kind must be one of .*, got 'lstm'"),
    ],
)
def test_invalid_settings_are_refused(config: type[Config], values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.parse(values, "encoder")


def test_the_default_kind_is_hourglass_and_every_kind_round_trips_through_json() -> None:
    assert EmbedderConfig.parse({"encoder": {"stride": 2}}, "").encoder == HourglassConfig(stride=2)
    for config in CONFIGS.values():
        architecture = EmbedderConfig(encoder=config)
        assert EmbedderConfig.parse(architecture.canonical(), "") == architecture


def test_the_component_in_the_documentation_is_valid() -> None:
    document = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text()
    values = yaml.safe_load(document.split("```yaml")[1].split("```")[0])
    component = ComponentConfig.parse(values["components"]["next"], "docs/encoders.md")
    assert component.independent and component.encoder.causal
    assert f"`{component.task.objective}`" in document
