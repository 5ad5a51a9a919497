"""Unknown keys are refused with a suggestion, at any depth; digests depend on values, not on order."""

from pathlib import Path

import pytest

from cclm_core.runtime.config import canonical_json, digest, load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.training.config import BaseConfig, ComponentConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainning": {}}, "p: trainning is not a known key; did you mean 'training'"),
        ({"training": {"step": 1}}, "p: training.step is not a known key; did you mean 'steps'"),
        (
            {"embedder": {"encoder": {"strides": 4}}},
            "embedder.encoder.strides is not a known key; did you mean 'stride'",
        ),
        ({"training": {"steps": -1}}, "greater than or equal to 0, got -1"),
        ({"training": {"precision": "fp16"}}, "'bf16' or 'fp32', got 'fp16'"),
    ],
)
def test_errors_contain_the_key_and_the_value(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BaseConfig.parse(values, "p")


def test_the_error_for_a_missing_key_contains_the_key() -> None:
    with pytest.raises(ConfigError, match="p: task is missing"):
        ComponentConfig.parse({}, "p")


def test_the_complete_configuration_can_be_read_back() -> None:
    config = ComponentConfig.parse({"task": {"objective": "characters"}}, "p")
    assert config.canonical()["task"]["num_bytes"] == 4
    assert ComponentConfig.parse(config.canonical(), "p") == config


def test_digests_depend_on_values_and_not_on_order() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2}) != digest({"a": 2.5})
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("inf"))


def test_without_a_near_name_all_known_names_are_listed() -> None:
    assert nearest("zebra", ["steps", "seed"]) == "known: seed, steps"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe", "is not valid YAML in UTF-8"),
        (b"- 1\n", "must contain a mapping of keys to values, got \\[1\\]"),
        (b"", "must contain a mapping of keys to values, got None"),
    ],
)
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)
    with pytest.raises(ConfigError, match="must be a file, but it is a folder or a device"):
        load_yaml(tmp_path)
