"""The README's walk-through and docs/library.md run as they are written, on a list of strings and on a dataset."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from typer.testing import CliRunner

import cclm_core
from cclm_core.cli.app import app
from tests.shelf.conftest import identity

__all__ = ["identity"]

ROOT = Path(__file__).parents[2]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "library.md"


def blocks(text: str) -> list[str]:
    """The Python code of a text in Markdown, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def walk_through() -> list[str]:
    """The code of the README's section."""
    return blocks(README.read_text(encoding="utf-8").split("\n## Use it as a library\n")[1].split("\n## ")[0])


def run(path: Path, code: list[str], names: dict[str, Any]) -> None:
    for block in code:
        exec(compile(block, str(path), "exec"), names)


@pytest.mark.skipif(find_spec("dvc") is None, reason="a shelf needs DVC: pip install 'cclm[shelf]'")
@pytest.mark.parametrize("kind", ["list", "dataset"])
def test_the_walk_through(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    data, *others = walk_through()
    run(README, [data], names)
    if kind == "dataset":
        names["texts"] = Dataset.from_dict({"text": names["texts"]})
    run(README, others, names)

    composed, parts = names["composed"], [names[name].model for name in ("characters", "words", "ahead")]
    assert names["features"].shape == (1, len("cclm is neat"), sum(part.width for part in parts))
    assert not any(parameter.requires_grad for parameter in names["embedder"].parameters())
    shares = names["labels"][1::2].bincount() / len(names["labels"][1::2])
    assert names["accuracy"] > shares.max() + 0.2
    for mine, fetched in zip(composed.embed(["teh parcle never came", ""]), names["vectors"], strict=True):
        assert np.array_equal(mine, fetched)


def test_the_page_on_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    run(README, walk_through()[:1], names)
    run(PAGE, blocks(PAGE.read_text(encoding="utf-8")), names)
    trained = [names[name].model for name in ("base", "words", "ahead", "robust", "edges")]
    assert cclm_core.ComposedModel(names["embedder"], trained).width == sum(part.width for part in trained)
    shown = CliRunner().invoke(
        app, ["generate", "my order", "--component", "models/ahead", "--base", "models/base"], catch_exceptions=False
    )
    assert shown.exit_code == 0 and len(shown.output) > len("my order")


def test_every_public_name_is_there() -> None:
    for name in cclm_core.__all__:
        assert getattr(cclm_core, name).__name__ == name
