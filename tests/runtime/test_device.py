"""Every model computes on the device of its weights and leaves no tensor on another device."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.applications.corrector import Corrector
from cclm_core.applications.generation import Sampling, generate
from cclm_core.applications.language_model import LanguageModel
from cclm_core.composition import Component, ComponentCard, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_component, load_composition, save
from cclm_core.encoders.embedder import Embedder
from cclm_core.evaluation.reading import Reader
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.denoise import DenoiseConfig
from cclm_core.runtime.device import autocast, device_of, num_threads, resolved_precision, select_device
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import seeded_initialization
from tests.composition.nests import FUSIONS
from tests.elsewhere import elsewhere
from tests.encoders.shapes import CAUSAL, CONFIGS, SMALL, embedder, text


def test_the_default_device_is_a_gpu_if_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CCLM_DEVICE")
    assert select_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("CCLM_DEVICE", "")
    assert select_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "meta", " cpu"])
def test_a_misspelled_device_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CCLM_DEVICE", name)
    with pytest.raises(ConfigError, match=f"CCLM_DEVICE must be cpu, cuda or cuda:NUMBER, got {name!r}"):
        select_device()


@pytest.mark.parametrize("name", ["cuda:99", *(() if torch.cuda.is_available() else ("cuda", "cuda:0"))])
def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CCLM_DEVICE", name)
    with pytest.raises(ConfigError, match=f"CCLM_DEVICE is {name!r}, but torch .* sees .* GPUs"):
        select_device()


def test_the_test_device_detects_a_tensor_on_the_wrong_device() -> None:
    with elsewhere() as device:
        there = torch.ones(2, 3).to(device)
        assert there.device == device and float(there.sum()) == 6
        with pytest.raises(RuntimeError, match="tensors must be on one device"):
            there + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + torch.ones(2, 3, device=device)).cpu().numpy().sum() == 12


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal within a tolerance: the CPU has its own kernels for linear layers, which round differently."""
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*CONFIGS, *CAUSAL])
def test_every_encoder_computes_on_the_device_of_its_weights(name: str) -> None:
    base = embedder((CONFIGS | CAUSAL)[name])
    ids = torch.cat([nn.functional.pad(text(size, size), (0, 19 - size)) for size in (19, 12, 1, 0)])
    expected = base(ids)
    with elsewhere() as device:
        features = base.to(device)(ids.to(device))
        assert features.device == device
        close(features.cpu(), expected)


def component(base: Embedder, name: str, objective: str = "entities", independent: bool = False) -> Component:
    encoder = SMALL.model_copy(update={"causal": objective == "next_characters"})
    with seeded_initialization(len(name)):
        part = Component(ComponentCard.over(base, name, objective, encoder, independent))
    part.card = part.card.model_copy(update={"origin": "0" * 64})
    return part


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_composition_embeds_and_is_saved_from_the_device_of_its_weights(fusion: str, tmp_path: Path) -> None:
    base = embedder(SMALL)
    model = ComposedModel(base, [component(base, "first"), component(base, "second")], fusion=fusion).eval()
    texts = ["abc de", "", "a" * 40]
    expected, ids = model.embed(texts, window=16), np.array([[260, 261, 262]])
    reader = Reader(model, 1024, 1024).read(ids)
    with elsewhere() as device:
        model.to(device)
        for features, expected_features in zip(model.embed(texts, window=16), expected, strict=True):
            close(torch.from_numpy(features), torch.from_numpy(expected_features))
        close(Reader(model, 1024, 1024).read(ids), reader)
        save(model, tmp_path)
        recomposed = ComposedModel(model.base, list(model.components.values()), fusion=fusion)
        recomposed.embed(texts)  # a new composition of these parts is on the same device
    assert load_composition(tmp_path).digest == model.digest == recomposed.digest


def test_a_frozen_base_moves_with_the_component_over_it(tmp_path: Path) -> None:
    base = embedder(SMALL)
    encoder, digest = OverBase(base, component(base, "first")), base.digest
    expected = encoder(text(9))
    with elsewhere() as device:
        encoder.to(device)
        assert device_of(base) == device and base.digest == digest
        close(encoder(text(9).to(device)).cpu(), expected)
        save(encoder.component, tmp_path)
    assert load_component(tmp_path).digest == encoder.component.digest


def test_text_is_generated_on_the_device_of_the_weights() -> None:
    base = embedder(SMALL)
    encoder = OverBase(base, component(base, "next", "next_characters", independent=True))
    with seeded_initialization(1):
        head = nn.Linear(encoder.component.width, base.preprocessor.num_ids)
    model = LanguageModel(encoder, head, base.preprocessor, 256)
    expected = "".join(generate(model, "abc", Sampling(max_characters=12)))
    bits = model.bits_per_character(["abc", "bca"])
    with elsewhere() as device:
        encoder.to(device), head.to(device)
        assert "".join(generate(model, "abc", Sampling(max_characters=12))) == expected
        assert model.bits_per_character(["abc", "bca"]) == pytest.approx(bits)


def test_text_is_corrected_on_the_device_of_the_weights() -> None:
    base = embedder(SMALL)
    part = component(base, "denoise", "denoise")
    with seeded_initialization(2):
        context = ObjectiveContext(width=part.width, preprocessor=base.preprocessor)
        objective = DenoiseConfig().build(context)
    corrector = Corrector(base, part, objective, 256)
    expected = corrector.correct("abc de", num_alternatives=2, min_confidence=0.0)
    with elsewhere() as device:
        corrected = corrector.to(device).correct("abc de", num_alternatives=2, min_confidence=0.0)
    assert (corrected.text, corrected.changes) == (expected.text, expected.changes)
    assert dict(corrected.alternatives) == pytest.approx(dict(expected.alternatives), rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*CONFIGS, *CAUSAL])
def test_every_encoder_gives_the_same_features_on_a_gpu_and_on_the_cpu(name: str) -> None:
    """Within a tolerance for features of about 1: a GPU sums in another order and has another attention kernel."""
    base = embedder((CONFIGS | CAUSAL)[name])
    ids = torch.cat([nn.functional.pad(text(size, size), (0, 19 - size)) for size in (19, 12, 1)])
    expected = base(ids)
    torch.testing.assert_close(base.to("cuda")(ids.to("cuda")).cpu(), expected, atol=1e-4, rtol=1e-4)


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), num_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("stop")
    assert torch.get_num_threads() == before


def test_auto_precision_is_bf16_only_if_the_cpu_supports_it() -> None:
    cpu = torch.device("cpu")
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    assert resolved_precision(cpu, "auto") == ("bf16" if has_avx512 else "fp32")
    assert [resolved_precision(cpu, "bf16"), resolved_precision(cpu, "fp32")] == ["bf16", "fp32"]
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    with autocast(cpu, "bf16"):
        assert (left @ right).dtype == torch.bfloat16
    with autocast(cpu, "fp32"):
        assert (left @ right).dtype == torch.float32
