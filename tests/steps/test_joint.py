"""Components that are trained jointly with the base: published by the stage `pretrain`, alone or trained further."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from cclm_core.composition.component import features_of
from cclm_core.composition.store import load_base, load_component
from cclm_core.runtime.artifacts import folder_digest, verify
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.readers import parse_yaml
from cclm_core.steps.params import Params
from tests.corpora import encode, records
from tests.steps.test_training_steps import ENCODER, PARAMS, TRAINING, Project

OTHER = {**ENCODER, "width": 24}


def joint_params(**changes: Any) -> dict[str, Any]:
    """Two components that are trained jointly with the base: one is published as it is, one is trained further."""
    objectives = [
        {"task": {"objective": "masked_characters"}},
        {"name": "entities", "task": {"objective": "entities"}, "encoder": ENCODER, "gradient_factor": 0.5},
        {"name": "bytes", "task": {"objective": "characters"}, "encoder": OTHER},
    ]
    components = {
        "entities": {"task": {"objective": "entities"}, "encoder": ENCODER, "joint": True, "training": {"steps": 0}},
        "bytes": {"task": {"objective": "characters"}, "encoder": OTHER, "joint": True, "training": TRAINING},
    }
    base = {**PARAMS["base"], "objectives": objectives}  # type: ignore[dict-item]
    ingest = {"source": {"kind": "files", "paths": ["texts.jsonl"]}, "validation_share": 0.1, "test_share": 0.1}
    others = {"ingest": ingest, "compositions": {}, "promotion": {"metrics": {"label_accuracy": {"margin": 0.1}}}}
    return PARAMS | others | {"base": base, "components": components} | changes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("joint"))
    project.write(joint_params())
    encode(project.encoded, records(40))
    project.run_base()
    for name in ("entities", "bytes"):
        project.run_pretrain(name)
    return project


def weights(folder: Path, name: str) -> dict[str, Any]:
    from safetensors.torch import load

    return load((folder / name).read_bytes())


def test_the_base_is_published_with_its_joint_components(trained: Project) -> None:
    verify(trained.base, "embedder")
    assert sorted(path.name for path in (trained.base / "joint").iterdir()) == ["bytes", "entities"]
    metrics = json.loads((trained.base / "metrics.json").read_text())
    assert metrics.keys() >= {"held_out_bits_per_masked_character", "held_out_bits_per_tag", "held_out_bits_per_byte"}


def test_without_further_steps_the_component_is_what_the_base_trained(trained: Project) -> None:
    folder = trained.folder / "entities"
    verify(folder, "component")
    body, published = weights(trained.base / "joint/entities", "body.safetensors"), load_component(folder)
    for name, tensor in published.body.state_dict().items():
        assert torch.equal(tensor, body[name])
    for name in ("head.safetensors", "labels.json"):
        assert (folder / name).read_bytes() == (trained.base / "joint/entities" / name).read_bytes()
    base = load_base(trained.base)
    ids = torch.from_numpy(base.preprocessor.encode("Ada Lovelace wrote to Charles.")).long()[None]
    assert features_of(base, {"entities": published}, ids)["entities"].shape == (1, ids.shape[1], ENCODER["width"])


def test_further_steps_change_this_component_alone(trained: Project) -> None:
    before = folder_digest(trained.folder / "entities")
    body = weights(trained.base / "joint/bytes", "body.safetensors")
    published = load_component(trained.folder / "bytes").body.state_dict()
    assert any(not torch.equal(tensor, body[name]) for name, tensor in published.items())
    trained.run_pretrain("entities")
    assert folder_digest(trained.folder / "entities") == before


def test_a_component_of_another_shape_is_refused_and_both_sides_are_named(trained: Project) -> None:
    params = joint_params()
    params["components"]["entities"]["encoder"] = {**ENCODER, "width": 32}
    trained.write(params)
    with pytest.raises(ConfigError, match=r"components\.entities\.encoder\.width is 32, but 16 in base\.objectives"):
        Params.load(trained.params).check()
    with pytest.raises(ConfigError, match=r"encoder\.width is 32 in components\.entities and 16 in .*joint/entities"):
        trained.run_pretrain("entities")
    trained.write(joint_params())


def test_a_base_without_the_component_is_refused(trained: Project) -> None:
    params = joint_params()
    params["components"]["words"] = params["components"]["entities"]
    trained.write(params)
    with pytest.raises(ArtifactError, match=r"words was not trained jointly with .*, which has bytes, entities"):
        trained.run_pretrain("words")
    with pytest.raises(ConfigError, match=r"components\.words\.joint: no objective .* known: bytes, entities"):
        Params.load(trained.params).check()
    trained.write(joint_params())


def test_the_examples_of_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs/transfer.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    assert len(examples) == 4
    for example in examples:
        Params({**joint_params(components={}), **parse_yaml(example, "docs/transfer.md")}).check()


def test_an_independent_component_cannot_be_joint() -> None:
    params = joint_params()
    params["components"]["bytes"]["independent"] = True
    with pytest.raises(ConfigError, match="has its own embedding and cannot be trained jointly"):
        Params(params).check()
