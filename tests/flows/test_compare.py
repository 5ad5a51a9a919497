"""`cclm models` shows what is registered; `cclm compare` shows which of two models is better, and how they differ."""

import json
import shutil
from pathlib import Path

import pytest

from cclm_core.evaluation.metrics import Metric
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import ConfigError
from flows.gate.descriptions import FIGURES_TAG, version_figures
from flows.gate.registry import RESULTS_TAG, Registry
from flows.run import compare as comparing
from flows.run import models as listing
from flows.run.compare import compare, cost_rows, metric_rows
from flows.run.models import model_rows, registered_models
from flows.run.sides import Side, open_side
from flows.tracking.client import connect
from tests.flows.conftest import Toy
from tests.flows.test_gate_trials import skip_load_checks
from tests.flows.toy_stages import write_results
from tests.flows.toy_tasks import TaskPromoter, open_tasks


@pytest.fixture
def tasks(task_champion: Path, task_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskPromoter:
    tasks = open_tasks(Toy(task_champion).copy(tmp_path / "tasks"), task_model, monkeypatch)
    skip_load_checks(monkeypatch)
    return tasks


def test_the_registered_models_are_shown_with_the_figures_of_the_champion(
    tasks: TaskPromoter, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = registered_models(Registry(connect(tasks.project)))
    assert (model.name, model.kind, model.versions) == ("intent", "task", 2)
    assert (model.champion, model.candidate, model.previous, model.shown) == ("2", "2", "1", "2")
    assert model.figures["accuracy"]["value"] == 0.7 and model.figures["accuracy"]["interval"] == pytest.approx(
        [0.65, 0.75]
    )
    assert model.megabytes is not None and 0 < model.megabytes < 10 and model.result == "champion"
    (row,) = model_rows([model], model.registered + 7200)
    assert row["figures"] == "accuracy ↑ 0.700 ±0.050\naccuracy_noise_0.1 ↑ 0.700 ±0.050"
    assert (row["age"], row["champion"], row["figures of"]) == ("2 h 0 min", "2", "version 2")
    listing.show(tasks.project, as_json=True)
    (printed,) = json.loads(capsys.readouterr().out)
    assert printed["model"] == "cclm-intent" and "better than the champion on 2 of 2" in printed["reason"]
    listing.show(tasks.project, as_json=False)
    assert "Registered models" in capsys.readouterr().out


def test_without_registered_models_the_command_says_so(
    project: Toy, task_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_tasks(project, task_model, monkeypatch)
    listing.show(project, as_json=False)
    assert "No model is registered." in capsys.readouterr().out
    monkeypatch.setenv("CCLM_TRACKING", "off")
    with pytest.raises(ConfigError, match="CCLM_TRACKING must not be off for `cclm models`"):
        listing.show(project, as_json=False)
    with pytest.raises(ConfigError, match="CCLM_TRACKING must not be off to compare intent@champion"):
        open_side(project, "intent@champion", project.root / "scratch")


def test_figures_that_were_changed_by_hand_are_left_out() -> None:
    for value in ("{", "[]", '{"f1": {"value": "x"}}'):
        assert version_figures({FIGURES_TAG: value}) == {}
    assert version_figures({}) == {}


def test_a_version_and_the_model_in_the_folder_are_compared_text_by_text(tasks: TaskPromoter) -> None:
    tasks.make(3, 0.9, 0.7)
    champion = open_side(tasks.project, "intent@champion", tasks.root / "scratch/first")
    current = open_side(tasks.project, "intent", tasks.root / "scratch/second")
    assert (champion.kind, current.kind) == ("task", "task") and champion.notes == current.notes == ()
    compared = compare(champion, current)
    clean, noisy = compared.metrics
    assert (clean.metric, clean.method, clean.winner) == ("accuracy", "paired", "second")
    assert (
        clean.difference == pytest.approx(0.2) and clean.interval and 0.1 < clean.interval[0] < clean.interval[1] < 0.3
    )
    assert (noisy.metric, noisy.interval, noisy.winner) == ("accuracy_noise_0.1", (0.0, 0.0), "")
    assert compared.summary() == (
        "Of 2 metrics, intent@champion is better on 0, intent on 1, and 1 show no clear difference."
    )
    assert all(value is not None and value > 0 for value in compared.milliseconds_per_text + compared.megabytes)
    assert ("git.commit", compared.code[0][1], "") == compared.code[0]
    assert {key for key, _, _ in compared.data} == {"evaluation: task"}  # the digest of the model; the data are equal
    assert compared.settings == []
    rows = metric_rows(compared)
    assert rows[0]["better"] == "intent" and rows[1]["better"] == "no clear difference"
    assert rows[0]["1: intent@champion"] == "0.700" and rows[0]["2: intent"] == "0.900"
    assert [row["cost"] for row in cost_rows(compared)] == ["size", "time per text, one CPU thread"]


def test_settings_that_differ_are_listed(tasks: TaskPromoter, task_model: Path) -> None:
    changed = tasks.root / "changed"
    with publishing(changed, "task") as folder:
        shutil.copytree(task_model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        card = json.loads((folder / "task.json").read_text())
        write_json(folder / "task.json", card | {"max_characters": 64})
        write_json(folder / "card.json", {"code": "1" * 64, "data": "2" * 64, "seed": 4})
    compared = compare(
        open_side(tasks.project, "intent", tasks.root / "a"),
        open_side(tasks.project, "changed", tasks.root / "b"),
        False,
    )
    assert ("task: max_characters", "512", "64") in compared.settings and ("card: seed", "", "4") in compared.settings
    assert ("card: data", "", "2" * 64) in compared.data and ("card: code", "", "1" * 64) in compared.code
    assert compared.milliseconds_per_text == (None, None) and compared.metrics == []
    assert compared.notes == ["changed is not measured in this project"]
    assert compared.summary() == "intent and changed have no metric in common."


def test_results_on_other_texts_are_compared_by_their_intervals(tasks: TaskPromoter, tmp_path: Path) -> None:
    write_results(tmp_path / "other", 0.75, {}, 0.95, texts="1" * 64)
    compared = compare(
        open_side(tasks.project, "results/tasks/intent", tasks.root / "a"),
        open_side(tasks.project, str(tmp_path / "other"), tasks.root / "b"),
        timed=False,
    )
    clean, noisy = compared.metrics
    assert (clean.method, clean.winner, noisy.method, noisy.winner) == ("unpaired", "", "unpaired", "second")
    half_width = (0.05**2 + 0.05**2) ** 0.5
    assert clean.interval == pytest.approx((0.05 - half_width, 0.05 + half_width))
    assert any("not measured on the same texts, so not paired: clean, noise_0.1" in note for note in compared.notes)


def test_lower_values_can_be_better_and_metrics_without_intervals_have_no_winner() -> None:
    first = Metric(value=3.0, better="lower", interval=(2.9, 3.1), headline=True)
    sides = [
        Side("a", None, None, None, {"bits": first, "f1": Metric(value=0.5, better="higher", headline=True)}),
        Side(
            "b",
            None,
            None,
            None,
            {
                "bits": first.model_copy(update={"value": 2.0, "interval": (1.9, 2.1)}),
                "f1": Metric(value=0.9, better="higher", headline=True),
            },
        ),
    ]
    bits, f1 = compare(*sides, timed=False).metrics
    assert (bits.winner, bits.difference) == ("second", -1.0)
    assert (f1.method, f1.interval, f1.winner) == ("none", None, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intnt", "intnt is no composition or task with results, .*; did you mean 'intent'"),
        ("intent/9", "intent/9 is not registered; did you mean"),
        ("intent@best", "intent@best is not registered"),
        ("nothing@champion", "nothing@champion is not registered; cclm-nothing has no versions"),
    ],
)
def test_what_does_not_exist_is_refused(tasks: TaskPromoter, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_side(tasks.project, text, tasks.root / "scratch")


def test_a_version_without_valid_files_is_not_loaded_but_its_figures_are_compared(
    tasks: TaskPromoter, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(connect(tasks.project))
    registry.set_tags("cclm-intent", "1", {RESULTS_TAG: "", "cclm.seal": "x:y"})
    first = open_side(tasks.project, "intent/1", tasks.root / "scratch")
    assert first.model is None and first.results is None and first.metrics["accuracy"].value == 0.5
    assert "no results are stored for cclm-intent version 1" in first.notes[0] and "is not loaded" in first.notes[1]
    comparing.show(tasks.project, "intent/1", "intent/2", timed=False, as_json=False)
    output = capsys.readouterr()
    assert "intent/2 on 2, and 0 show no clear difference" in output.out and "unpaired" in output.out
    assert "warning: intent/1 is not loaded" in output.err
    comparing.show(tasks.project, "intent/1", "intent/2", timed=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["metrics"][0]["winner"] == "second"
