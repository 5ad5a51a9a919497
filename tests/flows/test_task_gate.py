"""The gate for tasks on a real registry: only a model that is better on the same texts becomes champion."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file

from cclm_core.evaluation.promotion import SliceRule, TaskRules
from cclm_core.finetuning import fine_tune, load_task, save_task
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.errors import ConfigError
from flows.gate import overrides
from flows.gate import promote as promotion
from flows.gate.gate import Verdict, load_check
from flows.gate.load_check import check_answers
from flows.gate.overrides import accept, roll_back
from flows.gate.promote import pending
from flows.gate.registry import RESULTS_TAG, Registry
from flows.gate.served import TASK_REQUIREMENTS, served
from flows.gate.task_gate import compare_tasks
from flows.gate.task_serving import Predictions
from flows.tracking.client import connect
from tests.finetuning.tasks import config, data, embedder
from tests.flows.conftest import Toy
from tests.flows.test_gate_trials import skip_load_checks
from tests.flows.toy_stages import write_results
from tests.flows.toy_tasks import TaskPromoter, open_tasks

MODEL = "cclm-intent"


@pytest.fixture
def tasks(task_champion: Path, task_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskPromoter:
    tasks = open_tasks(Toy(task_champion).copy(tmp_path / "tasks"), task_model, monkeypatch)
    skip_load_checks(monkeypatch)
    return tasks


def stored_results(tasks: TaskPromoter) -> Path:
    """The folder with the stored results of the champion."""
    tag = Registry(connect(tasks.project)).version(MODEL, "2").tags[RESULTS_TAG]
    (folder,) = (tasks.root / "mlruns").rglob(f"results/{tag.partition('/')[2]}")
    return folder


def altered(tasks: TaskPromoter) -> None:
    path = stored_results(tasks) / "slices.csv"
    path.write_text(path.read_text().replace("0.7", "0.1"))
    tasks.make(3, 0.9)


def missing(tasks: TaskPromoter) -> None:
    shutil.rmtree(stored_results(tasks))
    tasks.make(3, 0.9)


def replaced(tasks: TaskPromoter) -> None:
    """The stored results of the champion are replaced by valid ones of another evaluation."""
    folder = stored_results(tasks)
    shutil.rmtree(folder)
    write_results(folder, 0.1, {"task": "x"})
    tasks.make(3, 0.9)


def without_outcomes(tasks: TaskPromoter) -> None:
    tasks.make(3, 0.9)
    folder = tasks.root / "results/tasks/intent"
    with publishing(folder, "evaluation") as target:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json", "*.parquet"))


def unnamed(tasks: TaskPromoter) -> None:
    tasks.make(3, 0.9)
    folder = tasks.root / "results/tasks/intent"
    with publishing(folder, "evaluation") as target:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        values = json.loads((target / "evaluation.json").read_text())
        (target / "evaluation.json").write_text(json.dumps({**values, "texts": None}))


WORSE_SLICE = [("label", "card", 120, 0.5), ("label", "refund", 80, 0.9)]
TRIALS: dict[str, tuple[Callable[[TaskPromoter], None], str]] = {
    "better": (
        lambda tasks: tasks.make(3, 0.9),
        "better than the champion on 2 of 2 test sets (1 required), worse on 0: accuracy ↑ clean 0.900 vs 0.700 (gain "
        "+0.2, 95 % interval ",
    ),
    "worse": (
        lambda tasks: tasks.make(3, 0.5),
        "better than the champion on 0 of 2 test sets (1 required), worse on 2",
    ),
    "equal": (lambda tasks: tasks.make(3, 0.7), "(gain +0, 95 % interval +0 to +0) no clear difference"),
    "missing slice": (
        lambda tasks: tasks.make(3, 0.9, slices=WORSE_SLICE[1:]),
        "label = card has 0 texts, but 120 for the champion",
    ),
    "other texts": (
        lambda tasks: tasks.make(3, 0.9, texts="1" * 64),
        "measured on other texts, targets or noise than the champion: clean, noise_0.1",
    ),
    "no texts named": (unnamed, "do not record on which texts"),
    "no outcomes": (without_outcomes, "it cannot be compared: outcomes.parquet not found"),
    "altered results of the champion": (altered, "the stored results of cclm-intent version 2 are missing or altered"),
    "missing results of the champion": (missing, "the stored results of cclm-intent version 2 are missing or altered"),
    "replaced results of the champion": (
        replaced,
        "the stored results of cclm-intent version 2 are missing or altered",
    ),
}
# Quality on clean and on noised texts, changes of the results, whether it passes, and the reason. The champion has 0.7.
COMPARISONS: dict[str, tuple[float, float | None, dict[str, Any], bool, str]] = {
    "hardly better": (0.71, None, {}, False, "on 0 of 2 test sets (1 required), worse on 0"),
    "better clean, worse under noise": (0.9, 0.5, {}, False, "on 1 of 2 test sets (1 required), worse on 1"),
    "equal clean, better under noise": (0.7, 0.9, {}, True, "on 1 of 2 test sets (1 required), worse on 0"),
    "worse slice": (
        0.9,
        None,
        {"slices": WORSE_SLICE},
        False,
        "worse or not comparable on slices: label = card (120 texts) 0.500 vs 0.700 (-0.2, margin 0.1)",
    ),
    "other slice": (0.9, None, {"slices": [("label", "card", 110, 0.9)]}, False, "has 110 texts, but 120 for the"),
    "NaN in a slice": (
        0.9,
        None,
        {"slices": [("label", "card", 120, float("nan"))]},
        False,
        "the score of label = card must be finite",
    ),
    "missing test set": (0.9, None, {"sets": ["clean"]}, False, "it was not measured on noise_0.1, but the champion"),
    "other ids": (0.9, None, {"ids": "x"}, False, "the models were measured on different texts of the set clean"),
    "NaN outcome": (0.9, None, {"statistic": float("nan")}, False, "outcomes of the candidate contain NaN or infinite"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str, tasks: TaskPromoter) -> None:
    act, reason = TRIALS[name]
    act(tasks)
    decision = tasks.promote()
    assert reason in decision.reason
    if name == "better":
        assert decision.result == "champion" and tasks.aliases() == ("3", "3", "2")
    else:
        assert decision.result == "candidate" and tasks.aliases() == ("3", "2", "1")
        waits = name.endswith("results of the champion")  # restoring them is enough
        assert pending(tasks.project, tasks.measured()) == (["intent"] if waits else [])


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison(name: str, tmp_path: Path) -> None:
    quality, noisy, changes, passes, reason = COMPARISONS[name]
    write_results(tmp_path / "new", quality, {}, noisy, **changes)
    write_results(tmp_path / "old", 0.7, {})
    verdict = compare_tasks(tmp_path / "new", tmp_path / "old", TaskRules())
    assert verdict.passed == passes and reason in verdict.reason


def test_a_champion_that_is_measured_again_is_compared_by_its_new_results(tasks: TaskPromoter) -> None:
    tasks.measure(0.8, texts="1" * 64)
    assert tasks.promote().version == "2" and verify(stored_results(tasks), "evaluation")
    tasks.make(3, 0.95, texts="1" * 64)
    decision = tasks.promote()
    assert decision.result == "champion" and "0.950 vs 0.800" in decision.reason


def test_slices_that_depend_on_the_training_texts_may_change(tmp_path: Path) -> None:
    for name, texts, score in (("new", 150, 0.1), ("old", 120, 0.9)):
        quality = 0.9 if name == "new" else 0.5
        rows = [("entities", "all seen in training", texts, score), ("label", "rare", 50, score)]
        write_results(tmp_path / name, quality, {}, slices=rows)
    assert compare_tasks(tmp_path / "new", tmp_path / "old", TaskRules()).passed
    strict = TaskRules(slices=SliceRule(min_texts=50))
    assert "label = rare (50 texts)" in compare_tasks(tmp_path / "new", tmp_path / "old", strict).reason
    assert compare_tasks(tmp_path / "new", tmp_path / "old", TaskRules(slices=None)).passed
    assert not compare_tasks(tmp_path / "old", tmp_path / "new", TaskRules(slices=None)).passed


def test_a_champion_that_does_not_load_is_not_replaced(tasks: TaskPromoter, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_load_checks(monkeypatch, unreadable="2")
    tasks.make(3, 0.9)
    decision = tasks.promote()
    assert decision.result == "candidate" and "champion version 2 no longer loads" in decision.reason


def test_a_candidate_that_predicts_nan_is_broken(tasks: TaskPromoter, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tasks.root / "broken"
    shutil.copytree(tasks.model, broken)
    weights = load_file(broken / "head.safetensors")
    save_file({name: weight * float("nan") for name, weight in weights.items()}, broken / "head.safetensors")
    monkeypatch.setattr(promotion, "load_check", load_check)
    monkeypatch.setattr(tasks, "model", broken)
    tasks.make(3, 0.9)
    decision = tasks.promote()
    assert decision.result == "broken" and "it does not load and predict in a new process" in decision.reason
    assert tasks.aliases() == ("3", "2", "1")
    monkeypatch.setattr(overrides, "load_check", lambda _uri, _tracking: Verdict(False, decision.reason))
    with pytest.raises(ConfigError, match="intent version 3 cannot be champion: it does not load"):
        accept(tasks.project, "intent")


def test_a_task_is_rolled_back_and_not_promoted_again(tasks: TaskPromoter) -> None:
    assert roll_back(tasks.project, "intent", "confuses refunds").result == "champion"
    assert tasks.aliases() == ("2", "1", None)
    decision = tasks.promote()
    assert decision.result == "rolled back" and "confuses refunds" in decision.reason


class Answering:
    """A model of MLflow that gives fixed answers, or none."""

    def __init__(self, answers: Callable[[int], Any]) -> None:
        self.answers = answers

    def predict(self, texts: list[Any]) -> list[Any]:
        return [self.answers(len(texts)) for _ in texts]


GOOD = {"label": "a", "score": 0.5, "scores": {"a": 0.5, "b": 0.5}}


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (lambda _: {}, "must not be empty"),
        (lambda _: {"score": 0.5}, "must not be empty"),
        (lambda _: GOOD | {"label": ""}, "must not be without a label"),
        (lambda _: GOOD | {"scores": {}}, "must not be without a label"),
        (lambda _: GOOD | {"scores": {"a": float("nan")}}, "must not be NaN or infinite"),
        (lambda _: {"value": float("inf")}, "must not be NaN or infinite"),
        (lambda _: {"value": None}, "must not be without a number"),
        (lambda number: {"value": float(number)}, "must not depend on the batch"),
        (lambda _: ["label"], "must not be empty"),
    ],
)
def test_invalid_answers_are_found(answers: Callable[[int], Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_answers(Answering(answers), False)
    assert check_answers(Answering(lambda _: GOOD), True) == {"answers": ["label", "score", "scores"]}
    assert check_answers(Answering(lambda _: {"entities": []}), False) == {"answers": ["entities"]}


# The registered model.


def loaded(folder: Path) -> Predictions:
    model = Predictions()
    model.load_context(SimpleNamespace(artifacts={"task": str(folder)}))
    return model


def test_a_registered_task_answers_lists_series_and_tables(task_model: Path) -> None:
    model, expected = loaded(task_model), load_task(task_model)
    texts = ["where is my card", "", "naïve \U0001d518"]
    answers = expected.predict(texts)
    for given in (
        texts,
        tuple(texts),
        np.array(texts, dtype=object),
        pd.Series(texts),
        pd.DataFrame({"text": texts, "id": [1, 2, 3]}),
    ):
        assert model.predict(None, given) == answers
    assert model.predict(None, []) == []
    for invalid in ([3], [None], pd.Series(["a", float("nan")]), [["a", "b"]], ["\ud800"]):
        with pytest.raises(ValueError, match=r"text [01] must be"):
            model.predict(None, invalid)
    for other in ("a", {"text": ["a"]}, np.array([["a", "b"]]), pd.DataFrame({"id": ["a"]})):
        with pytest.raises(ValueError, match="must"):
            model.predict(None, other)
    with pytest.raises(ValueError, match="a task has no params, got output"):
        model.predict(None, texts, {"output": "mean"})


def test_a_registered_task_on_pairs_takes_two_columns(tmp_path: Path) -> None:
    trained = fine_tune("same", data("classify", is_pair=True), embedder(), config(training={"steps": 1}))
    save_task(trained, tmp_path / "same")
    model, pairs = loaded(tmp_path / "same"), [("a card", "the post"), ("", "x")]
    answers = trained.predict(pairs)
    table = pd.DataFrame(pairs, columns=["text", "second"])
    for given in (pairs, [list(pair) for pair in pairs], np.array(pairs), table):
        assert model.predict(None, given) == answers
    for invalid, message in (
        (["a"], "pair 0 must be two strings"),
        ([("a", None)], "pair 0 must be a string"),
        (pd.DataFrame({"text": ["a"]}), "one column `second`"),
        (np.array(["a"]), r"shape \(N, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(None, invalid)
    packed = served("task", tmp_path / "same")
    assert packed.metadata == {"cclm.kind": "task", "cclm.pairs": True} and "pair" in packed.description
    assert list(packed.example.columns) == ["text", "second"] and "scikit-learn" in packed.requirements


def test_mlflow_serves_a_registered_task(tasks: TaskPromoter) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server

    mlflow.set_tracking_uri(connect(tasks.project).uri)
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    texts = ["where is my card", ""]
    expected = load_task(tasks.model).predict(texts)
    assert model.predict(texts) == expected
    (requirements,) = {path.read_text() for path in (tasks.root / "mlruns").rglob("requirements.txt")}
    assert {line.partition("==")[0] for line in requirements.splitlines()} >= set(TASK_REQUIREMENTS)
    client = TestClient(scoring_server.init(model))
    answer: Any = client.post(
        "/invocations", json={"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}
    )
    assert answer.status_code == 200
    assert [row["label"] for row in answer.json()["predictions"]] == [row["label"] for row in expected]
    answer = client.post("/invocations", json={"inputs": texts})
    assert answer.status_code == 200 and len(answer.json()["predictions"]) == 2
