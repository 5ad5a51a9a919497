"""Ensembles of real models: every kind of task, saving, a new process, and parts that do not fit."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cclm_core.evaluation.best_part import WORSE
from cclm_core.evaluation.fusing import Weights
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.finetuning.any_model import AnyTaskModel, texts_of
from cclm_core.finetuning.config import EnsembleConfig, TaskConfig
from cclm_core.finetuning.ensemble import Ensemble, EnsembleCard
from cclm_core.finetuning.evaluate import NoiseSet, evaluate_task, model_predictor
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.finetuning.fit import fine_tune
from cclm_core.finetuning.fuse import Fused, fuse_parts
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.ngram_model import fit_ngrams
from cclm_core.finetuning.parts import Parts
from cclm_core.finetuning.store import load_task, save_task
from cclm_core.labeled.examples import LabeledTask
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from tests.finetuning.tasks import config, data, embedder, texts

pytest.importorskip("sklearn")

KINDS: list[tuple[LabeledTask, bool]] = [("classify", False), ("multilabel", False), ("regress", True), ("tag", False)]
NOISE = {"share": 0.5, "rates": [0.1, 0.2]}


@cache
def parts_of(task: LabeledTask, is_pair: bool = False) -> dict[str, AnyTaskModel]:
    """A network, and n-grams."""
    labeled = data(task, is_pair)
    parts: dict[str, AnyTaskModel] = {"net": fine_tune("net", labeled, embedder(), config(training={"steps": 30}))}
    settings = TaskConfig.parse({"data": "toy", "model": "ngrams"}, "task")
    parts["counts"] = fit_ngrams("counts", labeled, settings)[0]
    return parts


def fused(parts: dict[str, AnyTaskModel], validation: int = 220, **changes: object) -> Fused:
    first = next(iter(parts.values()))
    settings = EnsembleConfig.parse({"parts": list(parts), "noise": NOISE} | changes, "ensembles.all")
    train, held_out = (texts(first.task, number, seed, first.is_pair) for number, seed in ((96, 1), (validation, 2)))
    return fuse_parts("all", parts, train, held_out, settings)


@pytest.fixture(scope="module")
def classifiers() -> dict[str, AnyTaskModel]:
    return dict(parts_of("classify"))


@pytest.mark.parametrize(("task", "is_pair"), KINDS)
def test_an_ensemble_answers_like_a_task_and_is_saved(task: LabeledTask, is_pair: bool, tmp_path: Path) -> None:
    result = fused(parts_of(task, is_pair), subsets=False, weights="by_text")
    model, test = result.model, texts(task, 40, 3, is_pair)
    assert (model.task, model.is_pair, model.name, model.width) == (task, is_pair, "all", 0)
    answers = model_predictor(model)(test)
    assert measure(task, test, answers)[HEADLINES[task]].value > (0.3 if is_pair else 0.8)
    save_task(model, tmp_path / "all")
    loaded = load_task(tmp_path / "all")
    assert isinstance(loaded, Ensemble) and loaded.digest == model.digest
    read = texts_of(model, test)
    assert np.allclose(loaded.scores(read), model.scores(read), atol=1e-5)
    pairs = [("", "a"), ("x", "")]
    inputs = pairs if is_pair else [first for first, _ in pairs]
    alone = [loaded.predict([item])[0] for item in inputs]
    assert [list(answer) for answer in loaded.predict(inputs)] == [list(answer) for answer in alone]
    assert set(result.description["parts"]) == set(model.card.parts) and result.candidates[0]["loss"] > 0


def test_weights_are_applied(classifiers: dict[str, AnyTaskModel]) -> None:
    first = classifiers["net"]
    read = texts_of(first, texts("classify", 30, 3))
    card = EnsembleCard(
        name="all", task="classify", labels=first.labels, parts=("net", "counts"), weights=Weights.even(2)
    )
    joined = Ensemble(card, list(classifiers.values())).scores(read)
    by_hand = sum(part.scores(read) for part in classifiers.values()) / 2
    assert np.allclose(np.exp(joined).sum(1), 1) and np.allclose(joined - joined[:, :1], by_hand - by_hand[:, :1])
    alone = card.model_copy(update={"weights": Weights(kind="fixed", bias=(0.0, -50.0))})
    assert np.allclose(Ensemble(alone, list(classifiers.values())).scores(read), first.scores(read))


def test_a_new_process_gives_the_same_answer(classifiers: dict[str, AnyTaskModel], tmp_path: Path) -> None:
    model = fused(classifiers, subsets=False).model
    save_task(model, tmp_path / "all")
    code = (
        f"from cclm_core.finetuning import load_task; m = load_task({str(tmp_path / 'all')!r}); "
        "print(m.digest, m.predict(['my parcel'])[0]['score'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert done[0] == model.digest
    assert float(done[1]) == pytest.approx(model.predict(["my parcel"])[0]["score"], abs=1e-5)


def test_without_validation_texts_all_parts_count_equally(classifiers: dict[str, AnyTaskModel]) -> None:
    result = fused(classifiers, validation=0)
    assert result.model.card.parts == ("net", "counts") and result.model.card.weights == Weights.even(2)
    assert "no validation texts" in result.warnings[0] and result.candidates == []


def test_each_part_is_measured_on_the_same_texts(classifiers: dict[str, AnyTaskModel]) -> None:
    model = fused(classifiers).model
    noise = [NoiseSet(name="noise_0.2", rate=0.2, recipe=NoiseRecipe(rate=0.2))]
    parts, test = Parts(model, classifiers), texts("classify", 120, 3)
    reported: dict[str, float] = {}
    result = evaluate_task(
        model,
        texts("classify", 96, 1),
        test,
        noise,
        {},
        1,
        Bootstrap(),
        lambda _step, values, _total=None: reported.update(values),
        parts,
    ).evaluation
    metrics, rows = result.metrics, result.tables["parts"]
    assert {(row["set"], row["part"]) for row in rows} == {
        (name, part) for name in ("clean", "noise_0.2") for part in classifiers
    }
    assert {peer.name for peer in metrics["accuracy"].baselines} == set(classifiers)
    for name, part in classifiers.items():
        alone = measure("classify", test, model_predictor(part)(test))["accuracy"].value
        assert metrics[f"accuracy_{name}"].value == pytest.approx(alone)
    best = max(metrics[f"accuracy_{name}"].value for name in classifiers)
    assert metrics["gain/accuracy"].value == pytest.approx(metrics["accuracy"].value - best)
    assert metrics[WORSE].value == 0
    assert set(reported) >= {"milliseconds_per_text/net", "milliseconds_per_text/counts", "milliseconds_per_text"}


def test_an_ensemble_that_is_worse_than_its_best_part_is_reported(classifiers: dict[str, AnyTaskModel]) -> None:
    first = classifiers["net"]
    settings = TaskConfig.parse({"data": "toy", "model": "ngrams"}, "task")
    labeled = data("classify")
    swapped = [text.__class__(text.id, text.text, label=labeled.labels[0]) for text in labeled.train]
    parts = classifiers | {
        "bad": fit_ngrams(
            "bad", labeled.__class__(task="classify", labels=labeled.labels, train=swapped, validation=[]), settings
        )[0]
    }
    card = EnsembleCard(
        name="all",
        task="classify",
        labels=first.labels,
        parts=("net", "bad"),
        weights=Weights(kind="fixed", bias=(0.0, 5.0)),
    )
    model = Ensemble(card, [parts["net"], parts["bad"]])
    test = texts("classify", 120, 3)
    result = evaluate_task(model, [], test, [], {}, 1, Bootstrap(), null_report, Parts(model, parts)).evaluation
    assert result.metrics[WORSE].value == 1 and result.metrics["gain/accuracy"].interval is not None
    assert any(warning.startswith("worse than its part") for warning in result.warnings)


def test_parts_that_do_not_fit_are_refused(classifiers: dict[str, AnyTaskModel], tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="the part other does not fit all: it has the task multilabel with 3 labels"
    ):
        fused(classifiers | {"other": parts_of("multilabel")["counts"]})
    with pytest.raises(ConfigError, match="parts must differ, got 'net' twice"):
        EnsembleConfig.parse({"parts": ["net", "net"]}, "ensembles.all")
    with pytest.raises(ConfigError, match="parts"):
        EnsembleCard(name="all", task="regress", parts=("../net",), weights=Weights.even(1))
    with pytest.raises(ConfigError, match="weights must be one per part, got 2 for 1 parts"):
        EnsembleCard(name="all", task="regress", parts=("net",), weights=Weights.even(2))
    model = fused(classifiers, subsets=False).model
    with pytest.raises(DataError, match="all has no vectors: it joins the answers"):
        model.embed(["a"])
    with pytest.raises(ArtifactError, match="has another version of counts"):
        Parts(model, {"net": classifiers["net"]})
    save_task(model, tmp_path / "all")
    (tmp_path / "all/manifest.json").unlink()
    (tmp_path / "all/parts/net/head.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_task(tmp_path / "all")


def test_typing_errors_make_a_text_less_familiar() -> None:
    familiarity = Familiarity.fit(["where is my card", "i want my money back", "please check the parcel"])
    usual, odd, empty, mixed = familiarity.measures(["Where is my money", "wehre iz mu monye", "", "日本 \U0001d518"])
    assert usual[0] < 0.2 < odd[0] and usual[1] < odd[1] < mixed[1]
    assert empty.tolist() == [0, 0] and mixed[0] == 1
