"""Unknown keys are refused with a suggestion, at any depth; digests depend on values, not on order."""

from pathlib import Path
from typing import Any

import pytest

from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.ingest.config import IngestConfig
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.runtime.config import Config, canonical_json, digest, load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.config import TargetsConfig, VocabularyConfig
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
    assert nearest("zebra", ["steps", "seed"]) == "known: seed, steps."


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


@pytest.mark.parametrize("values", [[], None, False, 0, "", "x", 3, [("min_count", 1)]])
def test_only_a_mapping_is_a_configuration(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^p must be a mapping of keys to values, got"):
        VocabularyConfig.parse(values, "p")


CALLS: dict[str, tuple[Any, str]] = {
    "unknown key": (lambda: NoiseRecipe(rat=0.1), "NoiseRecipe: rat is not a known key; did you mean 'rate'"),
    "out of range": (lambda: NoiseRecipe(rate=2), "NoiseRecipe: rate must be less than or equal to 1, got 2"),
    "nested": (
        lambda: VocabularyConfig(words={"kid": "bpe"}),
        "VocabularyConfig: words.kid is not a known key; did you mean 'kind'",
    ),
    "positional": (
        lambda: VocabularyConfig(512),
        r"takes keys by name, got 512\. Write `VocabularyConfig\(key=value\)`",
    ),
    "two values": (
        lambda: VocabularyConfig(max_length=5, downsample_factor=2),
        "VocabularyConfig: max_length must be a multiple of downsample_factor, got 5 and 2",
    ),
    "attribute": (lambda: setattr(VocabularyConfig(), "min_count", 3), "cannot be changed, got min_count = 3"),
    "infinite": (lambda: NoiseRecipe(rate=float("nan")), "rate must be a finite number, got nan"),
    "huge": (lambda: TargetsConfig(max_targets=10**12), "max_targets must be less than or equal to 1048576"),
}


@pytest.mark.parametrize("name", CALLS)
def test_constructors_raise_the_same_error_as_parse(name: str) -> None:
    call, message = CALLS[name]
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_nested_configuration_is_named_by_its_whole_path() -> None:
    with pytest.raises(ConfigError, match=r"^p: embedder\.encoder\.width must be greater"):
        BaseConfig.parse({"embedder": {"encoder": {"kind": "hourglass", "width": -1}}}, "p")
    config = BaseConfig.parse({"embedder": {"encoder": HourglassConfig(width=24)}}, "p")
    assert config.embedder.encoder.width == 24


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (VocabularyConfig, {"min_count": True}, "p: min_count must not be a truth value, got True"),
        (NoiseRecipe, {"rate": False}, "p: rate must not be a truth value, got False"),
        (NoiseRecipe, {"kinds": {"swap": True}}, r"kinds must not be a truth value, got \{'swap': True\}"),
        (VocabularyConfig, {"min_count": 1.5}, "p: min_count must be an integer, got 1.5"),
        (VocabularyConfig, {"min_count": "many"}, "p: min_count must be an integer, got 'many'"),
        (VocabularyConfig, {"cls": "perhaps"}, "p: cls must be true or false, got 'perhaps'"),
        (VocabularyConfig, {"words": 3}, "p: words must be a mapping, got 3"),
        (NoiseRecipe, {"layouts": "qwerty"}, "p: layouts must be a list, got 'qwerty'"),
        (ComponentConfig, {"task": {"rate": 0.1}}, "p: task.objective is missing"),
        (ComponentConfig, {"task": "entities"}, "p: task must be a mapping, got 'entities'"),
        (ComponentConfig, {"task": {"objective": "entitys"}}, "entities.*got 'entitys'; did you mean 'entities'"),
    ],
)
def test_messages_use_the_words_of_yaml(config: type[Config], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.parse(values, "p")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([2024], r'test_groups\.0 must be a string, got 2024\. YAML reads it as a number\. Put it in quotes: "2024"'),
        ([0.5], r"test_groups\.0 must be a string, got 0\.5\. YAML reads it as a number"),
        ([False], "test_groups must not be a truth value|YAML reads on, off, yes, no, true and false as truth values"),
        (5, "test_groups must be a list, got 5"),
    ],
)
def test_strings_that_yaml_reads_as_something_else_have_to_be_quoted(groups: Any, message: str) -> None:
    source = {"kind": "files", "paths": ["a.txt"]}
    with pytest.raises(ConfigError, match=message):
        IngestConfig.parse({"source": source, "validation_share": 0.1, "test_groups": groups}, "p")


def test_a_message_never_contains_a_whole_section() -> None:
    source = {"kind": "files", "paths": ["a.txt"] * 100}
    with pytest.raises(ConfigError) as caught:
        IngestConfig.parse({"source": source}, "p.yaml: ingest")
    message = str(caught.value)
    assert message == "p.yaml: ingest: set exactly one of `validation_groups` and `validation_share`"


def test_an_argument_is_a_configuration_a_mapping_or_nothing() -> None:
    config = VocabularyConfig(min_count=2)
    assert VocabularyConfig.from_argument(config, "config") is config
    assert VocabularyConfig.from_argument({"min_count": 2}, "config") == config
    assert VocabularyConfig.from_argument(None, "config") == VocabularyConfig()
    with pytest.raises(ConfigError, match="config must be a VocabularyConfig or a mapping of its keys, got 512"):
        VocabularyConfig.from_argument(512, "config")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="config must be a VocabularyConfig or a mapping of its keys, got TargetsC"):
        VocabularyConfig.from_argument(TargetsConfig(), "config")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="config: min_cuont is not a known key; did you mean 'min_count'"):
        VocabularyConfig.from_argument({"min_cuont": 2}, "config")


@pytest.mark.parametrize("name", ["x" * 100_000, "\x1b[2J", ""])
def test_absurd_keys_are_refused_quickly_and_briefly(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a known key") as caught:
        VocabularyConfig.parse({name: 1}, "p")
    assert len(str(caught.value)) < 500
