"""`cclm config show`, `diff` and `init`."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cclm_core.cli.app import app
from cclm_core.cli.keys import complete
from cclm_core.cli.settings import TEMPLATE, commented, differences, resolved
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.params import Params
from cclm_core.training.config import BaseConfig

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["config", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_complete_configuration_is_a_configuration_with_the_same_meaning() -> None:
    params = Params.load(ROOT / "params.yaml")
    values = resolved(params)
    assert values["base"]["objectives"][0]["loss_weight"] == 1.0, "keys that digests leave out are shown"
    again = Params(yaml.safe_load(yaml.safe_dump(values)))
    again.check()
    assert resolved(again) == values
    assert again.section(BaseConfig).canonical() == params.section(BaseConfig).canonical()


def test_show_prints_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert yaml.safe_load(run("show", "base.training"))["threads"] == 2
    assert json.loads(run("show", "components.entities.encoder.width", "--json")) == 128
    with pytest.raises(ConfigError, match=r"base\.trainig not found at 'trainig'; did you mean 'training'"):
        run("show", "base.trainig")


def test_diff_of_two_files_lists_values_with_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(TEMPLATE))
    changed = {**TEMPLATE, "base": {"training": {"steps": 7, "threads": 1}, "objectives": [{"gradient_factor": 0.5}]}}
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(changed))
    rows = json.loads(run("diff", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), "--json"))
    assert rows == [
        {"key": "base.objectives.0.gradient_factor.value", "first": 1.0, "second": 0.5},
        {"key": "base.training.steps", "first": 600, "second": 7},
    ]
    assert "base.training.steps" in run("diff", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert "equal values" in run("diff", str(tmp_path / "a.yaml"), str(tmp_path / "a.yaml"))


def test_diff_of_a_file_and_a_result_is_what_changed_since_the_training(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TEMPLATE))
    (tmp_path / "base").mkdir()
    card = {"stage": "base", "seed": 1, "data": "d", "configuration": BaseConfig().canonical()}
    (tmp_path / "base/card.json").write_text(canonical_json(card))
    assert differences(tmp_path / "params.yaml", tmp_path / "base") == []
    card["configuration"]["training"]["steps"] = 9  # type: ignore[index]
    (tmp_path / "base/card.json").write_text(canonical_json(card))
    rows = differences(tmp_path / "base", tmp_path / "params.yaml")
    assert [tuple(row) for row in rows] == [("configuration.training.steps", 9, 600)]
    with pytest.raises(ConfigError, match=r"card\.json not found in"):
        differences(tmp_path, tmp_path / "base")


def test_init_writes_every_key_with_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("init")
    text = Path("params.yaml").read_text()
    Params.load("params.yaml").check()
    assert resolved(Params.load("params.yaml")) == resolved(Params(TEMPLATE))
    assert "    # windows per batch\n    batch_size: 32\n" in text
    assert "    # learning_rate: 0.004\n" in text, "its default depends on the encoder"
    assert max(map(len, text.splitlines())) <= 130
    with pytest.raises(ConfigError, match=r"params\.yaml exists already"):
        run("init")
    run("init", "--force")
    assert commented(Params(TEMPLATE)) == text and complete(BaseConfig())["training"]["keep"] == "last"
