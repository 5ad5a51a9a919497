"""Saving and loading embedders, without the code of compositions."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import torch

from cclm_core.composition.store import load, save
from cclm_core.encoders.embedder import Embedder
from cclm_core.encoders.store import load_embedder, save_embedder
from cclm_core.runtime.errors import ArtifactError, ConfigError
from tests.encoders.shapes import SMALL, embedder, text

ROOT = Path(__file__).parents[2]


def test_a_loaded_embedder_equals_the_saved_one(tmp_path: Path) -> None:
    base = embedder(SMALL)
    save_embedder(base, tmp_path)
    loaded = load_embedder(tmp_path)
    assert loaded.digest == base.digest and loaded.config == base.config
    assert loaded.preprocessor.digest == base.preprocessor.digest
    assert torch.equal(loaded.eval()(text(9)), base(text(9)))


def test_compositions_save_and_load_embedders_in_the_same_format(tmp_path: Path) -> None:
    base, folders = embedder(SMALL), [tmp_path / "embedder", tmp_path / "composition"]
    for folder, write in zip(folders, (save_embedder, save), strict=True):
        folder.mkdir()
        write(base, folder)
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] == ["embedder.json", "embedder.safetensors", "preprocessor.json"]
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names[0])
    loaded = load(folders[0])
    assert isinstance(loaded, Embedder) and loaded.digest == base.digest


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    save_embedder(embedder(SMALL), tmp_path)
    weights = (tmp_path / "embedder.safetensors").read_bytes()
    (tmp_path / "embedder.safetensors").write_bytes(weights[:99])
    with pytest.raises(ArtifactError, match=r"embedder\.safetensors does not contain all weights of Embedder: .*"):
        load_embedder(tmp_path)
    (tmp_path / "embedder.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"embedder\.safetensors not found\. Run the stage"):
        load_embedder(tmp_path)
    (tmp_path / "embedder.json").write_text('{"encodr": {}}')
    with pytest.raises(ConfigError, match=r"embedder\.json: encodr is not a known key; did you mean 'encoder'"):
        load_embedder(tmp_path)


def test_the_stage_base_does_not_import_compositions() -> None:
    """Otherwise a change of a fusion would train the base again."""
    graph = grimp.build_graph("cclm_core")
    modules = graph.find_upstream_modules("cclm_core.steps.base")  # imports inside functions too
    assert "cclm_core.training.run" in modules
    assert not {module for module in modules if module.startswith("cclm_core.composition")}
    code = "import sys, cclm_core.steps.base; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "cclm_core.training.run" in loaded and "cclm_core.composition" not in loaded
