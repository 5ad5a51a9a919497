"""Items to publish: they load, and name their base, vocabulary and data."""

from pathlib import Path

import pytest

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import ArtifactError, CclmError, IntegrityError
from cclm_core.shelf.items import describe
from tests.composition.test_composed import component
from tests.shelf.conftest import saved


@pytest.fixture
def stage(old: Embedder, tmp_path: Path) -> Path:
    """A component as published by the stage `pretrain`."""
    with publishing(tmp_path / "component", "component") as folder:
        save(component(old, "first"), folder)
        write_json(folder / "metrics.json", {"parameters": 7})
        write_json(folder / "card.json", {"stage": "pretrain", "data": "d" * 64})
    return tmp_path / "component"


def test_a_component_names_its_base_vocabulary_data_and_scores(stage: Path, old: Embedder) -> None:
    described = describe(stage, "component")
    assert described.digests == {"base": old.digest, "vocabulary": old.preprocessor.digest, "data": "d" * 64}
    assert described.scores == {"parameters": 7}
    assert described.configuration["objective"] == "entities"
    assert sorted(described.sources) == [
        *("card.json", "component.json", "component.safetensors", "manifest.json", "metrics.json")
    ]


def test_an_embedder_a_composition_and_a_preprocessor_name_their_digests(
    old: Embedder, new: Embedder, composed: ComposedModel, tmp_path: Path
) -> None:
    folder = saved(old, tmp_path / "embedder")
    vocabulary = old.preprocessor.digest
    assert describe(folder, "embedder").digests == {"model": old.digest, "vocabulary": vocabulary}
    for path in (folder, folder / "preprocessor.json"):  # the folder of an embedder also contains its vocabulary
        described = describe(path, "preprocessor")
        assert described.digests == {"model": vocabulary, "vocabulary": vocabulary}
        assert list(described.sources) == ["preprocessor.json"]
    described = describe(saved(composed, tmp_path / "composed"), "composition")
    assert described.digests == {"model": composed.digest, "base": new.digest, "vocabulary": vocabulary}


def test_a_folder_altered_after_its_stage_is_refused(stage: Path) -> None:
    with (stage / "component.safetensors").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(IntegrityError, match=r"component.safetensors is altered"):
        describe(stage, "component")


def test_another_type_is_refused(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="must contain a published embedder, got component"):
        describe(stage, "embedder")
    with pytest.raises(ArtifactError, match="not found"):
        describe(tmp_path / "nowhere", "component")
    with pytest.raises(ArtifactError, match=r"preprocessor\.json not found"):
        describe(stage, "preprocessor")


def test_damaged_weights_and_a_wrong_base_are_refused(old: Embedder, composed: ComposedModel, tmp_path: Path) -> None:
    folder = saved(old, tmp_path / "embedder")
    (folder / "embedder.safetensors").write_bytes(b"no weights")
    with pytest.raises(CclmError, match=r"embedder.safetensors"):
        describe(folder, "embedder")
    whole = saved(composed, tmp_path / "composed")
    save(old, whole / "base")
    with pytest.raises(CclmError, match="base"):
        describe(whole, "composition")
    whole = saved(composed, tmp_path / "again")
    (whole / "parts" / "second" / "component.safetensors").unlink()
    with pytest.raises(CclmError, match=r"second/component.safetensors"):
        describe(whole, "composition")
