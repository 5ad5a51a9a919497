"""Fine-tuning every kind of task on small data: it learns, predicts any text, and survives saving."""

import json
from pathlib import Path

import numpy as np
import pytest

from cclm_core.encoders.embedder import Embedder
from cclm_core.finetuning.evaluate import model_predictor
from cclm_core.finetuning.fit import TaskData, TaskRun, fine_tune
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.model import TaskCard, TaskModel
from cclm_core.finetuning.store import load_task, save_task
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.runtime.errors import ConfigError, DataError
from tests.finetuning.tasks import TOPICS, config, data, embedder, preprocessor, texts

KINDS: dict[str, tuple[LabeledTask, bool]] = {
    "classify": ("classify", False),
    "multilabel": ("multilabel", False),
    "regress": ("regress", False),
    "tag": ("tag", False),
    "pairs": ("classify", True),
    "regress pairs": ("regress", True),
}


@pytest.fixture(scope="module")
def models() -> dict[str, TaskModel]:
    return {
        name: fine_tune("toy", data(task, is_pair, 256 if is_pair else 96), embedder(), config())
        for name, (task, is_pair) in KINDS.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_task_is_learned(models: dict[str, TaskModel], name: str) -> None:
    task, is_pair = KINDS[name]
    test = texts(task, 64, 3, is_pair)
    metrics = measure(task, test, model_predictor(models[name])(test))
    assert metrics[HEADLINES[task]].value > (0.7 if is_pair else 0.95)


@pytest.mark.parametrize("name", KINDS)
def test_predictions_do_not_depend_on_the_batch(models: dict[str, TaskModel], name: str) -> None:
    task, is_pair = KINDS[name]
    test = texts(task, 12, 4, is_pair)
    predict = model_predictor(models[name])
    alone = [predict([text])[0] for text in test]
    for one, other in zip(predict(test), alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5) if "value" in one else _rounded(one) == _rounded(other)


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_model_predicts_the_same(
    models: dict[str, TaskModel], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task, is_pair = KINDS[name]
    folder = tmp_path_factory.mktemp("saved") / "task"
    save_task(models[name], folder)
    loaded, test = load_task(folder), texts(task, 8, 5, is_pair)
    assert model_predictor(loaded)(test) == model_predictor(models[name])(test)
    assert loaded.digest == models[name].digest and not loaded.training


@pytest.mark.parametrize("name", ["classify", "multilabel", "regress", "tag"])
def test_texts_of_any_length_are_predicted(models: dict[str, TaskModel], name: str) -> None:
    every = ["", "a", "ab", "card " * 500, "🙂", "\n"]
    predictions = models[name].predict(every)
    assert len(predictions) == len(every)
    assert models[name].embed(every).shape == (len(every), 32) and not models[name].embed([""]).any()


def test_a_long_text_is_read_to_its_end(models: dict[str, TaskModel]) -> None:
    model = models["tag"]
    text = "no Bob now. " + "please check. " * 100 + "where is Rome now"
    found = {entity["text"] for entity in model.predict([text])[0]["entities"]}
    assert {"Bob", "Rome"} <= found


@pytest.mark.parametrize("train", ["probe", "heads"])
def test_a_frozen_encoder_keeps_its_weights(train: str) -> None:
    start = embedder()
    model = fine_tune("toy", data("classify"), start, config(train=train))
    assert isinstance(model.encoder, Embedder) and model.encoder.digest == start.digest
    test = texts("classify", 64, 3)
    assert measure("classify", test, model_predictor(model)(test))["accuracy"].value > 0.6


def test_fine_tuning_does_not_change_the_encoder_that_was_passed() -> None:
    start = embedder()
    before = start.digest
    model = fine_tune("toy", data("classify"), start, config(training={"steps": 3}))
    assert start.digest == before != model.encoder.digest


def test_the_same_seed_gives_the_same_model_and_another_seed_does_not() -> None:
    short = config(training={"steps": 3})
    first, same, other = (fine_tune("toy", data("classify"), embedder(), short, seed=seed) for seed in (1, 1, 2))
    assert first.digest == same.digest != other.digest


def test_a_task_can_start_from_random_weights() -> None:
    small = {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": {"kind": "attention", "width": 16}}
    config_ = config(composition=None, embedder=small, training={"steps": 3})
    model = fine_tune("toy", data("classify"), preprocessor(), config_)
    assert model.encoder.width == 16 and model.predict(["card"])[0]["label"] in TOPICS


def test_balanced_class_weights_find_a_rare_label() -> None:
    train = [text for text in texts("classify", 300, 1) if text.label == "card" or text.id.endswith("0")]
    rare = TaskData(task="classify", labels=tuple(TOPICS), train=train, validation=train[:20])
    plain, balanced = (
        fine_tune("toy", rare, embedder(), config(class_weights=weights, training={"steps": 10}))
        for weights in (None, "balanced")
    )
    recalls = [
        np.mean([model.predict([text.text])[0]["label"] == text.label for text in texts("classify", 90, 3)])
        for model in (plain, balanced)
    ]
    assert recalls[1] > recalls[0]


def test_layerwise_rates_move_lower_layers_less() -> None:
    start = embedder()
    changes = {}
    for decay in (1.0, 0.1):
        model = fine_tune("toy", data("classify"), start, config(training={"steps": 3, "layer_decay": decay}))
        moved = {
            name: float((weight - dict(start.named_parameters())[name]).detach().abs().mean())
            for name, weight in model.encoder.named_parameters()
        }
        changes[decay] = sum(value for name, value in moved.items() if name.startswith("embedding"))
    assert changes[0.1] < 0.3 * changes[1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"head": "tags"}}, "head must be classification"),
        ({"class_weights": {"crad": 2.0}}, "'crad' is no label.*card"),
        ({"train": "top"}, "top needs a composition"),
        ({"head": {"head": "classification", "similarities": True}}, "similarities needs pairs of texts"),
        ({"composition": None, "train": "heads"}, "train: heads needs a composition"),
        ({"training": {"steps": 3, "epochs": 2}}, "`steps` or `epochs`, not both"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fine_tune("toy", data("classify"), embedder(), config(**changes))


def test_wrong_inputs_are_refused(models: dict[str, TaskModel]) -> None:
    with pytest.raises(DataError, match="text"):
        models["classify"].predict("one string")
    with pytest.raises(DataError, match="item 0 must be two strings"):
        models["pairs"].predict(["ab"])
    with pytest.raises(DataError, match="train split has no texts"):
        fine_tune("toy", TaskData(task="classify", labels=("a",), train=[], validation=[]), embedder(), config())


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("train", ["all", "probe"])
def test_pairs_that_share_words_are_told_from_those_that_do_not(train: str) -> None:
    """The words of the test were never seen in training, so only similarities can tell."""
    pairs = _overlapping(160, "abcdefgh", 1), _overlapping(40, "stuvwxyz", 2)
    labels = ("other", "same")
    task = TaskData(task="classify", labels=labels, train=pairs[0], validation=[])
    accuracies = {}
    for similarities in (True, False):
        head = {"head": "classification", "similarities": similarities}
        model = fine_tune("toy", task, embedder(), config(train=train, head=head, noise={"share": 0}))
        accuracies[similarities] = measure("classify", pairs[1], model_predictor(model)(pairs[1]))["accuracy"].value
    assert accuracies[True] > 0.9 and accuracies[True] >= accuracies[False]


def test_tags_with_learned_transitions_and_word_dropout(tmp_path: Path) -> None:
    head = {"head": "tags", "transitions": "learned", "word_dropout": 0.1}
    model = fine_tune("toy", data("tag"), embedder(), config(head=head))
    save_task(model, tmp_path / "task")
    loaded, test = load_task(tmp_path / "task"), texts("tag", 64, 3)
    assert loaded.digest == model.digest and model.head.state_dict()["transitions.between"].abs().sum() > 0
    predictions = model_predictor(loaded)(test)
    assert predictions == model_predictor(model)(test)
    assert measure("tag", test, predictions)["entity_f1"].value > 0.95
    scores = [entity["score"] for answer in predictions for entity in answer["entities"]]
    assert 0.5 < min(scores) <= max(scores) <= 1
    assert loaded.predict(["", "no"]) == [{"entities": []}] * 2
    with pytest.raises(ConfigError, match="transitions: learned cannot be fitted by train: probe"):
        fine_tune("toy", data("tag"), embedder(), config(head=head, train="probe"))


def test_random_weights_have_a_lower_default_learning_rate() -> None:
    training = {"learning_rate": None, "steps": 2}
    rates = {
        composition: TaskRun(
            "toy", config(training=training, composition=composition), data("classify"), embedder(), 1
        ).schedule.learning_rate
        for composition in ("full", None)
    }
    assert rates == {"full": 0.003, None: 0.001}


def test_tags_of_an_older_version_have_no_layers_over_words(tmp_path: Path) -> None:
    model = fine_tune("toy", data("tag"), embedder(), config(head={"head": "tags", "word_layers": 0}))
    save_task(model, tmp_path / "task")
    assert "word_layers" not in json.loads((tmp_path / "task" / "task.json").read_text())["head"]
    assert load_task(tmp_path / "task").digest == model.digest
    with pytest.raises(ConfigError, match="word_layers must be 0 or null with train: probe"):
        fine_tune("toy", data("tag"), embedder(), config(head={"head": "tags", "word_layers": 1}, train="probe"))


def test_a_head_of_an_older_version_reads_no_similarities(tmp_path: Path) -> None:
    head = {"head": "classification", "similarities": False}
    model = fine_tune("toy", data("classify", True), embedder(), config(head=head, training={"steps": 2}))
    save_task(model, tmp_path / "task")
    card = json.loads((tmp_path / "task" / "task.json").read_text())
    del card["head"]["similarities"]
    old = TaskCard.parse(card, "task.json")
    assert "similarities" not in old.canonical()["head"]
    rebuilt = old.head.build(old.context(model.encoder))
    rebuilt.load_state_dict(model.head.state_dict())


def _overlapping(number: int, letters: str, seed: int) -> list[LabeledText]:
    """Pairs of texts of random words; half of them share two of three words."""
    generator = np.random.default_rng(seed)
    pairs = []
    for index in range(number):
        words = ["".join(generator.choice(list(letters), 5)) for _ in range(6)]
        label = "same" if index % 2 else "other"
        second = [*words[:2], words[5]] if label == "same" else words[3:]
        pairs.append(LabeledText(f"{seed}-{index}", " ".join(words[:3]), " ".join(second), label=label))
    return pairs
