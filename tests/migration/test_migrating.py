"""Every line that a user of cclm 0.1.2 types works, or its error says what to write instead."""

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from cclm_core import (
    CharacterMaskPretrainer,
    ComposedModel,
    Embedder,
    MaskedLanguagePretrainer,
    Preprocessor,
    Shelf,
)
from cclm_core.encoders import EmbedderConfig
from cclm_core.noise.augmentor import Augmentor, lower
from cclm_core.runtime.errors import CclmError
from cclm_core.runtime.migration import OldArgumentError, OldAttributeError, OldImportError
from tests.migration.lines import LINES
from tests.pretraining.test_pretrainer import ENCODER, SHAPE, SHORT, TEXTS

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    """The objects of the README of cclm 0.1.2."""
    torch.manual_seed(1)
    prep = Preprocessor(max_example_len=64).fit(TEXTS)
    embedder = Embedder(prep.max_example_len, prep.n_chars, preprocessor=prep, config=SHAPE)
    pretrainer_a = MaskedLanguagePretrainer(embedder=embedder, encoder=ENCODER)
    pretrainer_b = CharacterMaskPretrainer(embedder=embedder, encoder=ENCODER)
    for pretrainer in (pretrainer_a, pretrainer_b):
        pretrainer.fit(TEXTS, **SHORT)
    composed = ComposedModel(embedder, [pretrainer_a.model, pretrainer_b.model])
    return {
        "prep": prep,
        "embedder": embedder,
        "pretrainer_a": pretrainer_a,
        "pretrainer_b": pretrainer_b,
        "composed": composed,
        "new": CharacterMaskPretrainer(embedder, encoder=ENCODER),
    }


@pytest.fixture
def names(trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that lines use; no line changes the objects of another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CCLM_SHELF", raising=False)
    old_file = tmp_path / "cclm_config.json"
    old_file.write_text(json.dumps({"char_rev": {"4": "a"}, "char_dict": {"a": 4}, "max_example_len": 128}))
    objects = copy.deepcopy(trained)
    objects["prep"].save(tmp_path / "preprocessor.json")
    objects["pretrainer_a"].save(tmp_path / "saved")
    (tmp_path / "folder").mkdir()
    return objects | {
        "Preprocessor": Preprocessor,
        "Embedder": Embedder,
        "ComposedModel": ComposedModel,
        "MaskedLanguagePretrainer": MaskedLanguagePretrainer,
        "CharacterMaskPretrainer": CharacterMaskPretrainer,
        "Augmentor": Augmentor,
        "Shelf": Shelf,
        "lower": lower,
        "augmentor": Augmentor(),
        "np": np,
        "os": os,
        "texts": TEXTS[:40],
        "dataset": Dataset.from_dict({"text": TEXTS[:40]}),
        "x": objects["prep"].string_to_array("cclm is neat", objects["prep"].max_example_len),
        "preprocessor_file": str(tmp_path / "preprocessor.json"),
        "old_file": str(old_file),
        "folder": str(tmp_path / "folder"),
        "saved": str(tmp_path / "saved"),
    }


@pytest.mark.parametrize("line", LINES)
def test_the_line_works_or_its_error_says_what_to_write(line: str, names: dict[str, Any]) -> None:
    expected = LINES[line]
    code = compile(line, "line", "exec")
    if expected is None:
        exec(code, names)
        return
    with pytest.raises(CclmError, match=re.escape(expected)):
        exec(code, names)


def test_pythons_own_rules_hold_for_old_names() -> None:
    prep = Preprocessor(alphabet="ab")
    assert not hasattr(prep, "char_dict") and getattr(prep, "char_rev", None) is None
    assert not hasattr(Embedder(prep, SHAPE), "summary")
    for error, builtin in ((OldArgumentError, TypeError), (OldAttributeError, AttributeError)):
        assert issubclass(error, builtin) and issubclass(error, CclmError)
    with pytest.raises(ImportError):
        import cclm  # type: ignore[import-not-found]  # noqa: F401
    assert issubclass(OldImportError, ImportError)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        prep.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_name'"):
        Preprocessor(no_such_name=1)  # type: ignore[call-arg]


def test_old_arguments_mean_what_they_meant() -> None:
    prep = Preprocessor(max_example_len=8, vocab_size=60, add_cls=True, downsample_factor=4)
    prep.fit(["aab", "ac"], min_char_count=2)
    assert prep.alphabet == "a" and prep.encode("a").tolist() == [2, 260]
    assert prep.string_to_array("aaaa").shape == (8,)
    assert prep.config.words is not None and prep.config.words.max_targets == 60
    embedder = Embedder(prep, EmbedderConfig(**dict(SHAPE)))
    assert embedder.trainable
    embedder.trainable = False
    assert not any(parameter.requires_grad for parameter in embedder.parameters())
    assert MaskedLanguagePretrainer(embedder).words == prep.config.words


def test_the_augmentor_of_the_seed() -> None:
    calls: list[str] = []

    def shout(text: str) -> str:
        calls.append(text)
        return text + "!"

    augmentor = Augmentor({"shout": {"function": shout, "probability": 0.5}})
    changed = sum(augmentor.transform("a") == "a!" for _ in range(400))
    assert 160 < changed < 240 and len(calls) == changed
    first, second = (Augmentor({"shout": {"function": shout, "probability": 0.5}}) for _ in range(2))
    assert [first.transform("a") for _ in range(20)] == [second.transform("a") for _ in range(20)]
    defaults = Augmentor()
    texts = [defaults.transform("abc") for _ in range(3000)]
    assert 8 <= texts.count("ABC") <= 30 and 15 <= texts.count("Abc") <= 55
    with pytest.raises(CclmError, match="shout must have a function and a probability"):
        Augmentor({"shout": {"function": shout}})


def test_the_readme_of_the_page_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    variables: dict[str, Any] = {"dataset": TEXTS}
    exec(compile(block, str(PAGE), "exec"), variables)
    assert variables["emb"].shape[:2] == (1, 48) and variables["probability"].shape == (1, 1)


def test_the_page_lists_what_changed() -> None:
    """Every old name that is an error is on the page."""
    from cclm_core.encoders import migration as encoders
    from cclm_core.pretraining import migration as pretraining
    from cclm_core.runtime.migration import NAMES
    from cclm_core.text import arguments as text

    page = PAGE.read_text(encoding="utf-8")
    tables = (NAMES, encoders.EMBEDDER, pretraining.ARGUMENTS, pretraining.FIT, text.ARGUMENTS, text.FIT)
    attributes = (encoders.ATTRIBUTES, pretraining.ATTRIBUTES, text.ATTRIBUTES)
    missing = {name for table in (*tables, *attributes) for name in table if name not in page}
    assert not missing
