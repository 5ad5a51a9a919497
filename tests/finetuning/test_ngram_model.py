"""Tasks of counted n-grams alone: every kind of task, noised copies, saving, and clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from cclm_core.finetuning.any_model import texts_of
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.evaluate import model_predictor, noised_texts
from cclm_core.finetuning.fit import TaskData
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.ngram_model import NgramsModel, fit_ngrams
from cclm_core.finetuning.store import load_task, save_task
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from tests.finetuning.tasks import data, texts

pytest.importorskip("sklearn")

KINDS: list[tuple[LabeledTask, bool]] = [
    ("classify", False),
    ("multilabel", False),
    ("regress", False),
    ("tag", False),
    ("classify", True),
    ("regress", True),
]


def settings(**changes: object) -> TaskConfig:
    return TaskConfig.parse({"data": "toy", "model": "ngrams"} | changes, "tasks.toy")


def fitted(task: LabeledTask, is_pair: bool = False, **changes: object) -> NgramsModel:
    return fit_ngrams("toy", data(task, is_pair), settings(**changes))[0]


@pytest.mark.parametrize(("task", "is_pair"), KINDS)
def test_the_model_learns_and_is_saved(task: LabeledTask, is_pair: bool, tmp_path: Path) -> None:
    model, metrics = fit_ngrams("toy", data(task, is_pair), settings())
    test = texts(task, 64, 3, is_pair)
    value = measure(task, test, model_predictor(model)(test))[HEADLINES[task]].value
    assert value > (0.3 if is_pair else 0.9)  # pairs on one topic often share no word
    assert list(metrics) == [f"held_out_{HEADLINES[task]}"]
    save_task(model, tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    read = texts_of(model, test)
    assert isinstance(loaded, NgramsModel) and loaded.digest == model.digest
    assert np.allclose(loaded.scores(read), model.scores(read), atol=1e-5)
    assert len(loaded.predict([("", "")] if is_pair else [""])) == 1 and loaded.predict([]) == []


def test_noised_copies_help_under_noise() -> None:
    test = texts("classify", 200, 3)
    noised = noised_texts(test, TextNoiser(NoiseRecipe(rate=0.3)), 1, "test")
    values = [
        measure("classify", noised, model_predictor(fitted("classify", noised_copies=rates))(noised))["accuracy"].value
        for rates in ([], [0.1, 0.2, 0.3])
    ]
    assert values[1] > values[0]


def test_labels_that_all_texts_have_or_none_get_their_frequency() -> None:
    rows = [LabeledText(str(number), f"text {number}", labels=("always",)) for number in range(20)]
    labeled = TaskData(task="multilabel", labels=("always", "never"), train=rows, validation=[])
    model, metrics = fit_ngrams("toy", labeled, settings())
    assert model.predict(["text"])[0]["labels"] == ["always"] and metrics == {}


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "again"):
        save_task(fitted("classify", noised_copies=[0.1]), tmp_path / name)
    assert (tmp_path / "first/manifest.json").read_bytes() == (tmp_path / "again/manifest.json").read_bytes()


def test_what_n_grams_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="head is for networks, but model is ngrams"):
        settings(head={"head": "tags", "dropout": 0.1})
    with pytest.raises(ConfigError, match="composition is for networks, but model is ngrams"):
        settings(composition="full")
    with pytest.raises(ConfigError, match="noised_copies is for `model: ngrams`"):
        TaskConfig.parse({"data": "toy", "noised_copies": [0.1]}, "tasks.toy")
    with pytest.raises(ConfigError, match="sizes, max_features and strength, but no weight"):
        settings(ngrams={"weight": 2})
    with pytest.raises(DataError, match="toy has no vectors: it consists of counted n-grams"):
        fitted("classify").embed(["a"])
    assert TaskConfig.parse(settings().canonical(), "card") == settings()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_task(fitted("classify", True), tmp_path / "task")
    (tmp_path / "task/manifest.json").unlink()
    path = tmp_path / "task/ngrams.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ngrams": [["a", "a"]]}))
    with pytest.raises(ArtifactError, match="must have 3 lists of distinct `ngrams`"):
        load_task(tmp_path / "task")
    card = tmp_path / "task/task.json"
    card.write_text(card.read_text().replace("cclm-ngrams-1", "cclm-ngrams-9"))
    with pytest.raises(ArtifactError, match="must have a format among"):
        load_task(tmp_path / "task")
