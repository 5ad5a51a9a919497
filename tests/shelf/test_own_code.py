"""A model with a block of the user is published and fetched with its code, which runs only if it is trusted."""

from pathlib import Path

import pytest

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load, save
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.own_code import OwnCode, offering, trusting_code
from tests.forgotten import forget_own_code
from tests.shelf.conftest import ABOUT, LocalShelf

BLOCKS = Path(__file__).parents[1] / "steps/own_blocks.py"


def test_the_code_is_fetched_with_the_model(
    local: LocalShelf, new: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with offering([OwnCode.read(BLOCKS)]):
        encoder = EmbedderConfig.parse({"encoder": {"kind": "table.v1"}}, "test").encoder
    part = Component(ComponentCard.over(new, "own", "none", encoder))
    model = ComposedModel(new, [part], "with_own")
    save(model, tmp_path / "model")
    digest = model.digest
    local.shelf.publish(tmp_path / "model", "with_own", "composition", about=ABOUT, tag="own")
    folder = local.shelf.fetch("with_own", "composition", tag="own", cache_dir=tmp_path / "elsewhere")
    assert (folder / "parts/own/code" / BLOCKS.name).read_bytes() == BLOCKS.read_bytes()

    forget_own_code(monkeypatch)
    with pytest.raises(ConfigError, match=r"which can do anything on this machine.* pass --trust-code"):
        load(folder)
    with trusting_code():
        assert load(folder).digest == digest
