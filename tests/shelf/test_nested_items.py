"""Nested compositions, components on top of them, and forks: published, fetched and loaded in a new process."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cclm_core import load
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import IntegrityError
from cclm_core.shelf import Shelf
from cclm_core.shelf.items import describe
from tests.composition.nests import over, tower
from tests.composition.test_composed import component
from tests.shelf.conftest import ABOUT, LocalShelf, saved

ROOT = Path(__file__).parents[2]
TEXT = "Give me excess of it"
FETCHED = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from cclm_core import ComposedModel, Shelf, load
base, part = (load(Shelf(sys.argv[1]).fetch("nest", kind, "n", sys.argv[2])) for kind in ("composition", "component"))
high = ComposedModel(base, [part])
print(hashlib.sha256(high.embed([sys.argv[3]])[0].tobytes()).hexdigest())
"""


def test_publish_and_fetch_a_nested_composition_and_a_component_on_top(
    local: LocalShelf, new: Embedder, tmp_path: Path
) -> None:
    composition = tower(new)
    top = over(composition, "top")
    local.shelf.publish(saved(composition, tmp_path / "composition"), "nest", "composition", about=ABOUT)
    (tmp_path / "component").mkdir()
    save(top, tmp_path / "component")
    card = local.shelf.publish(tmp_path / "component", "nest", "component", about=ABOUT, tag="n").card
    below = local.shelf.show("nest", "composition", "n")
    assert card.digests.base == below.digests.model == composition.digest
    assert below.digests.base == composition.base.digest
    assert sum(file.path.endswith("embedder.safetensors") for file in below.files) == 1
    command = [sys.executable, "-c", FETCHED, str(local.folder), str(tmp_path / "cache"), TEXT]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = ComposedModel(composition, [top]).eval().embed([TEXT])[0]
    assert output.strip() == hashlib.sha256(expected.tobytes()).hexdigest()


def test_an_altered_nested_file_in_the_cache_is_detected(local: LocalShelf, new: Embedder, tmp_path: Path) -> None:
    shelf: Shelf = local.shelf
    shelf.publish(saved(tower(new), tmp_path / "composition"), "nest", "composition", about=ABOUT, tag="n")
    folder = shelf.fetch("nest", "composition", "n", tmp_path / "cache")
    deep = folder / "base" / "base" / "parts" / "first" / "component.safetensors"
    deep.write_bytes(deep.read_bytes()[:-1] + b"\1")
    with pytest.raises(IntegrityError, match=r"base/base/parts/first/component.safetensors' is altered"):
        shelf.fetch("nest", "composition", "n", tmp_path / "cache")


def test_a_fork_is_published_with_its_own_base_and_names_no_other(
    local: LocalShelf, new: Embedder, tmp_path: Path
) -> None:
    fork = component(new, "first").fork(new)
    with publishing(tmp_path / "fork", "component") as folder:
        save(fork, folder)
        write_json(folder / "metrics.json", {"parameters": 7})
    described = describe(tmp_path / "fork", "component")
    assert described.digests == {"vocabulary": new.preprocessor.digest} and described.scores == {"parameters": 7}
    local.shelf.publish(tmp_path / "fork", "fork", "component", about=ABOUT, tag="f")
    fetched = load(local.shelf.fetch("fork", "component", "f", tmp_path / "cache"))
    assert isinstance(fetched, Component) and fetched.digest == fork.digest and fetched.card == fork.card


def test_a_fork_without_its_base_is_not_published(new: Embedder, tmp_path: Path) -> None:
    save(component(new, "first").fork(new), tmp_path)
    (tmp_path / "base" / "embedder.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"base/embedder.safetensors is missing"):
        describe(tmp_path, "component")
