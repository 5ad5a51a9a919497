"""`params.yaml`: sections are known, valid, and consistent with each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.composition.config import CompositionConfig
from cclm_core.ingest.config import IngestConfig
from cclm_core.noise.recipe import NoiseConfig, TrainingNoise
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.params import SECTIONS, Params
from cclm_core.text.vocabulary import VocabularyConfig
from cclm_core.training.config import ComponentConfig

DEFAULTS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
WORDS = {"task": {"objective": "masked_words"}}


def test_the_default_parameters_are_valid_and_use_every_section() -> None:
    Params(DEFAULTS).check()
    assert set(DEFAULTS) == {"seed", *SECTIONS}


def test_optional_sections_and_keys_can_be_omitted(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"seed": 3, "ingest": DEFAULTS["ingest"], "noise": {"rates": [0.1]}}))
    params = Params.load(path)
    params.check()
    assert params.seed == 3
    assert params.section(VocabularyConfig) == VocabularyConfig()
    assert params.section(TrainingNoise).misspellings is None
    assert params.section(NoiseConfig).rates == (0.1,)
    assert params.names(ComponentConfig) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocabulray": {}}, "vocabulray is not a known section; did you mean 'vocabulary'"),
        ({"noise": [1]}, "noise must be a mapping, got \\[1\\]"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"promotion": {"": 1}}, "promotion is not a known key"),
    ],
)
def test_unknown_sections_and_wrong_types_are_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Params(DEFAULTS | {"seed": 1, **values}).check()


def test_misspelled_keys_and_names_are_rejected_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"ingest: test_group is not a known key; did you mean 'test_groups'"):
        Params({"seed": 1, "ingest": {**DEFAULTS["ingest"], "test_group": []}}).section(IngestConfig)
    with pytest.raises(ConfigError, match=r"components\.entity not found; did you mean 'entities'"):
        Params(DEFAULTS).named(ComponentConfig, "entity")
    with pytest.raises(ConfigError, match=r"components\.entities must be a mapping of keys to values, got 3"):
        Params(DEFAULTS | {"components": {"entities": 3}}).named(ComponentConfig, "entities")


@pytest.mark.parametrize("sections", [{"base": {"objectives": [{}, WORDS]}}, {"components": {"words": WORDS}}])
def test_masked_words_need_a_vocabulary_with_word_targets(sections: dict[str, Any]) -> None:
    key = r"base\.objectives\.1" if "base" in sections else r"components\.words"
    values = DEFAULTS | {"compositions": {}} | sections
    with pytest.raises(ConfigError, match=rf"masked_words of {key} needs a vocabulary .* Set vocabulary\.words"):
        Params(values).check()
    Params(values | {"vocabulary": {"words": {}}}).check()


def test_a_part_that_is_not_a_component_is_rejected() -> None:
    values = DEFAULTS | {"compositions": {"full": {"parts": ["entities", "charakters"]}}}
    with pytest.raises(
        ConfigError, match=r"compositions\.full\.parts: 'charakters' not found.*did you mean 'characters'"
    ):
        Params(values).check()
    assert Params(values).named(CompositionConfig, "full").parts == ("entities", "charakters")


@pytest.mark.parametrize("key", ["noise", "training_noise"])
def test_a_list_of_misspellings_must_be_in_the_folder_that_dvc_watches(key: str) -> None:
    def values(path: str) -> dict[str, Any]:
        return {"seed": 1, key: {"misspellings": {"path": path} if key == "noise" else path}}

    config = NoiseConfig if key == "noise" else TrainingNoise
    with pytest.raises(ConfigError, match=rf"{key}\.misspellings.* must be a file in misspellings/, got 'lists/a.csv'"):
        Params(values("lists/a.csv")).section(config)
    Params(values("misspellings/a.csv")).section(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (2024, "a name must be a string, got 2024. Put it in quotes"),
        (True, "a name must be a string, got True"),
        ("", "a name must consist of letters, digits, `_` and `-`"),
        ("a/b", "a name must consist of letters"),
        ("..", "a name must consist of letters"),
        ("a b; rm", "a name must consist of letters"),
        ("-x", ".* and not start with `-`"),
        ("x" * 300, ".* at most 100 bytes"),
        ("ENTITIES", "names must differ in more than upper and lower case, got 'entities' and 'ENTITIES'"),
    ],
)
@pytest.mark.parametrize("section", ["labeled", "components", "compositions"])
def test_names_that_no_stage_or_folder_can_have_are_rejected(section: str, name: object, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"params\.yaml: {section}: {message}"):
        Params({"seed": 1, section: {"entities": {}, name: {}}})
    Params({"seed": 1, section: {"2024": {}, "on": {}, "größe_2-b": {}}})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  characters:\n", "  2024:\n", 'YAML reads the key 2024 as an int. Put it in quotes: "2024"'),
        ("  characters:\n", "  on:\n", 'YAML reads the key on as a bool. Put it in quotes: "on"'),
        ("[twelfth_night, ", "[2024-01-01, ", 'YAML reads 2024-01-01 as a date. Put it in quotes: "2024-01-01"'),
        ("[twelfth_night, ", "[2024, ", "validation_groups.0 must be a string, got 2024. YAML reads it as a number"),
        ("[twelfth_night, ", "[yes, ", "validation_groups must not be a truth value|YAML reads on, off, yes"),
        ("seed: 1\n", "seed: 1\nseed: 2\n", "the key 'seed' appears twice"),
        ("vocabulary:\n", "vocabulary: {}\nvocabulary:\n", "the key 'vocabulary' appears twice"),
        ("min_count: 5", "min_count: 2001-99-99", "YAML reads 2001-99-99 as a date"),
        ("min_count: 5", "min_count: true", "min_count must not be a truth value, got True"),
        ("min_count: 5", "min_count: .nan", "min_count must be an integer, got nan|finite"),
        ("\nvocabulary:\n", "\nvocabulary: 0\nbase2:\n", "vocabulary must be a mapping, got 0|base2 is not a known"),
    ],
)
def test_values_that_yaml_reads_differently_are_rejected(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        Params.load(str(tmp_path / "params.yaml")).check()
