"""The walkthrough in the original CCLM's README works unchanged, except for torch instead of Keras."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from cclm_core import (
    CausalLanguagePretrainer,
    CharacterMaskPretrainer,
    ComposedModel,
    Embedder,
    MaskedLanguagePretrainer,
    Preprocessor,
    Shelf,
)
from cclm_core.shelf import About
from tests.corpora import sentence
from tests.shelf.conftest import identity

__all__ = ["identity"]

GENERATOR = np.random.default_rng(3)
TEXTS = [sentence(GENERATOR, number, "train").text for number in range(60)]
SHORT: dict[str, Any] = {"batch_size": 4, "window": 32, "evaluation_windows": 8}
"""Settings that keep the test short. The walkthrough works without them."""


@pytest.fixture(params=["list", "dataset"])
def dataset(request: pytest.FixtureRequest) -> Any:
    """The texts, as `List[str]` and as `datasets.Dataset`."""
    return TEXTS if request.param == "list" else Dataset.from_dict({"text": TEXTS})


def test_pretrainers(dataset: Any) -> None:
    """`MaskedLanguagePretrainer(embedder=embedder)` trains a new embedder. A second pretrainer uses it frozen."""
    embedder = Embedder(Preprocessor().fit(TEXTS))
    before = embedder.digest

    pretrainer = MaskedLanguagePretrainer(embedder=embedder)
    pretrainer.fit(dataset, epochs=1, **SHORT)
    trained = embedder.digest
    assert trained != before and not any(parameter.requires_grad for parameter in embedder.parameters())

    pretrainer_b = CharacterMaskPretrainer(embedder=embedder)
    pretrainer_b.fit(dataset, epochs=1, **SHORT)
    assert embedder.digest == trained, "a frozen embedder must not change"
    composed = ComposedModel(embedder, [pretrainer.model, pretrainer_b.model])
    assert composed.width == pretrainer.model.width + pretrainer_b.model.width

    independent = CausalLanguagePretrainer(embedder=embedder, independent=True)
    independent.fit(dataset, steps=1, **SHORT)
    assert embedder.digest == trained


def test_the_walk_through_of_the_seed(dataset: Any) -> None:
    torch.manual_seed(1)
    prep = Preprocessor(max_example_len=48)
    prep.fit(dataset)

    embedder = Embedder(prep.max_example_len, prep.n_chars, preprocessor=prep)

    pretrainer_a = MaskedLanguagePretrainer(embedder=embedder)
    pretrainer_a.fit(dataset, epochs=1, **SHORT)
    pretrainer_b = CharacterMaskPretrainer(embedder=embedder)
    pretrainer_b.fit(dataset, epochs=1, **SHORT)

    composed = ComposedModel(embedder, [pretrainer_a.model, pretrainer_b.model])

    x = prep.string_to_array("cclm is neat", prep.max_example_len)
    emb = composed.model(x)
    assert emb.shape == (1, prep.max_example_len, pretrainer_a.model.width + pretrainer_b.model.width)

    # Instead of Keras: pool the output over the characters, and add a classification head.
    model = nn.Sequential(nn.Linear(composed.width, 1), nn.Sigmoid())
    probability = model(composed.model(x).amax(dim=1))
    assert probability.shape == (1, 1) and 0 < float(probability) < 1


@pytest.mark.skipif(find_spec("dvc") is None, reason="a shelf needs DVC: pip install 'cclm-core[shelf]'")
def test_the_shelf_of_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fetch` takes identifier, item type and tag, and returns the folder to load the item from."""
    prep = Preprocessor().fit(TEXTS)
    prep.save(tmp_path / "preprocessor.json")
    shelf = Shelf.create(tmp_path / "shelf", tmp_path / "store")
    about = About("CC0-1.0", "characters of made-up sentences")
    shelf.publish(tmp_path / "preprocessor.json", "en_wiki_clm_1", "preprocessor", about=about, tag="v0.2.1")
    monkeypatch.setenv("CCLM_SHELF", str(tmp_path / "shelf"))
    cache_dir = tmp_path / ".cclm"

    shelf = Shelf()
    identifier = "en_wiki_clm_1"
    item_type = "preprocessor"
    folder = shelf.fetch(identifier, item_type, tag="v0.2.1", cache_dir=cache_dir)
    prep = Preprocessor(load_from=folder / "preprocessor.json")
    assert prep.digest == Preprocessor().fit(TEXTS).digest


def test_a_saved_preprocessor_is_loaded_with_load_from(tmp_path: Path) -> None:
    saved = Preprocessor(max_example_len=48).fit(TEXTS)
    cache_dir, identifier, item_type = str(tmp_path), "en_wiki_clm_1", "preprocessor"
    folder = tmp_path / identifier / item_type
    folder.mkdir(parents=True)
    saved.save(folder / "cclm_config.json")

    prep = Preprocessor(
        load_from=os.path.join(cache_dir, identifier, item_type, "cclm_config.json")  # noqa: PTH118  as in the README
    )
    assert (prep.digest, prep.max_example_len) == (saved.digest, 48)
