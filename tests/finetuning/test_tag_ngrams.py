"""N-grams that tag words: learning, context, unseen spellings, saving, the sum with the network, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.any_model import Texts, texts_of
from cclm_core.finetuning.config import NgramsConfig, TaskConfig
from cclm_core.finetuning.evaluate import model_predictor
from cclm_core.finetuning.fit import TaskData, fine_tune
from cclm_core.finetuning.measures import measure
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.ngram_model import fit_ngrams
from cclm_core.finetuning.store import load_task, save_task
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.finetuning.words import tagged_units
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.tagged_words import words_of
from tests.finetuning.tasks import config, data, embedder, texts

pytest.importorskip("sklearn")

LABELS = ("LOC", "PER")


def fitted(rows: list[LabeledText], labels: tuple[str, ...] = LABELS) -> TagNgrams:
    return TagNgrams(NgramsConfig(), labels).fit(*tagged_units(rows, "word", labels))


def entities(ngrams: TagNgrams, text: str) -> list[int]:
    return [int(row) for row in ngrams.scores(Texts([text], words=[words_of(text)])).argmax(1)]


@pytest.fixture(scope="module")
def network() -> TaskModel:
    return fine_tune("toy", data("tag"), embedder(), config(ngrams={"weight": 2}, training={"steps": 6}))


def test_neighbors_and_shapes_decide_about_unseen_words() -> None:
    rows = []
    for number, name in enumerate(["Anna", "Bert", "Carl", "Dora", "Emil", "Fred"]):
        rows.append(LabeledText(f"p{number}", f"says {name} .", entities=(Entity(5, 9, "PER"),)))
        rows.append(LabeledText(f"l{number}", f"in {name} .", entities=(Entity(3, 7, "LOC"),)))
    ngrams = fitted(rows)
    assert entities(ngrams, "says Zuzu .") == [0, 3, 0] and entities(ngrams, "in Zuzu .") == [0, 1, 0]
    assert entities(ngrams, "") == [] and np.allclose(
        np.exp(ngrams.scores(Texts(["a B"], words=[((0, 1), (2, 3))]))).sum(1), 1
    )


def test_a_word_that_begins_an_entity_differs_from_one_inside() -> None:
    rows = [
        LabeledText(str(number), f"to {first} {last} now", entities=(Entity(3, 4 + len(first + last), "LOC"),))
        for number, (first, last) in enumerate([("New", "York"), ("Los", "Angeles"), ("San", "Diego")] * 2)
    ]
    assert entities(fitted(rows), "to New York now") == [0, 1, 2, 0]


def test_texts_without_entities_and_labels_without_texts() -> None:
    rows = [LabeledText("1", "no name here"), LabeledText("2", "none")]
    assert entities(fitted(rows), "Rome is here") == [0, 0, 0]
    one = [LabeledText("1", "Rome is", entities=(Entity(0, 4, "LOC"),))]
    scores = fitted(one).scores(Texts(["Rome is"], words=[((0, 4), (5, 7))]))
    assert scores.argmax(1).tolist() == [1, 0] and scores[:, 3:].max() < -10


def test_the_sum_with_the_network_is_saved_and_used_everywhere(network: TaskModel, tmp_path: Path) -> None:
    assert network.card.ngram_weight == 2 and isinstance(network.ngrams, TagNgrams)
    test = texts("tag", 64, 3)
    read = texts_of(network, test)
    joined = network.scores(read)
    parts = (network.scores(read, 0) + 2 * network.ngrams.scores(read)) / 3
    shifted = parts - np.log(np.exp(parts).sum(1, keepdims=True))
    assert np.allclose(joined, shifted, atol=1e-4) and not np.allclose(joined, network.scores(read, 0), atol=0.1)
    answers = model_predictor(network)(test)
    assert measure("tag", test, answers)["entity_f1"].value > 0.95
    save_task(network, tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    assert loaded.digest == network.digest and model_predictor(loaded)(test) == answers
    assert loaded.predict(["where is Rome now"])[0]["entities"][0]["label"] == "LOC"
    other = TaskModel(network.card, network.encoder, network.head, fitted(texts("tag", 20, 9)))
    assert other.digest != network.digest


def test_learned_transitions_are_joined_with_the_n_grams() -> None:
    head = {"head": "tags", "transitions": "learned"}
    model = fine_tune("toy", data("tag"), embedder(), config(ngrams={"weight": 4}, head=head, training={"steps": 6}))
    test = texts("tag", 64, 3)
    assert measure("tag", test, model_predictor(model)(test))["entity_f1"].value > 0.95
    assert np.allclose(np.exp(model.scores(texts_of(model, test))).sum(1), 1, atol=1e-4)


def test_the_weight_is_selected_on_validation_texts() -> None:
    labeled = data("tag")
    many = TaskData(task="tag", labels=LABELS, train=labeled.train, validation=texts("tag", 200, 2))
    untrained = config(ngrams={}, training={"steps": 0})
    assert fine_tune("toy", many, embedder(), untrained).card.ngram_weight == 4  # random weights know nothing
    assert fine_tune("toy", labeled, embedder(), untrained).card.ngram_weight == 2


def test_characters_are_tagged_in_text_without_spaces(tmp_path: Path) -> None:
    rows = [
        LabeledText(str(number), f"我住在{city}市。", entities=(Entity(3, 5, "LOC"),))
        for number, city in enumerate(["北京", "上海", "天津", "南京"] * 3)
    ]
    labeled = TaskData(task="tag", labels=("LOC",), train=rows, validation=[])
    settings = TaskConfig.parse(
        {"data": "toy", "model": "ngrams", "head": {"head": "tags", "unit": "character"}}, "tasks.toy"
    )
    model, _ = fit_ngrams("toy", labeled, settings)
    save_task(model, tmp_path / "task")
    answer = load_task(tmp_path / "task").predict(["我住在北京市。"])[0]["entities"]
    assert [(span["start"], span["end"], span["label"]) for span in answer] == [(3, 5, "LOC")]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    fitted(texts("tag", 20, 1)).save(tmp_path)
    path = tmp_path / "ngrams.json"
    values = json.loads(path.read_text())
    for names in ({"characters": []}, values["ngrams"] | {"shapes": ["a", "a"]}, ["a"], None):
        path.write_text(json.dumps(values | {"ngrams": names}))
        with pytest.raises(ArtifactError, match="must have lists of distinct `ngrams`"):
            TagNgrams.load(tmp_path, LABELS)
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError):
        TagNgrams.load(tmp_path, ("LOC", "ORG", "PER"))
