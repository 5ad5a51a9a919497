"""The README's walk-through runs as it is written, on a list of strings and on a dataset."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

import cclm_core
from tests.shelf.conftest import identity

__all__ = ["identity"]

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    """The code of the section, block by block."""
    (section,) = re.findall(r"^## Use it as a library\n(.*?)^## ", README.read_text(encoding="utf-8"), re.M | re.S)
    return re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)


@pytest.mark.parametrize("kind", ["list", "dataset"])
def test_the_walk_through(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    names: dict[str, Any] = {}
    data, *others = blocks()
    exec(compile(data, str(README), "exec"), names)
    if kind == "dataset":
        names["texts"] = Dataset.from_dict({"text": names["texts"]})
    for block in others:
        exec(compile(block, str(README), "exec"), names)

    composed, parts = names["composed"], [names[name].model for name in ("characters", "words", "ahead")]
    widths = sum(part.width for part in parts)
    assert names["features"].shape == (1, len("cclm is neat"), widths)
    assert not any(parameter.requires_grad for parameter in names["embedder"].parameters())
    shares = names["labels"][1::2].bincount() / len(names["labels"][1::2])
    assert names["accuracy"] > shares.max() + 0.2
    for mine, fetched in zip(composed.embed(["teh parcle never came", ""]), names["vectors"], strict=True):
        assert np.array_equal(mine, fetched)


def test_every_public_name_is_there() -> None:
    for name in cclm_core.__all__:
        assert getattr(cclm_core, name).__name__ == name
