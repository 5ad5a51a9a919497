"""Labels of documents: which texts a batch has, learning with counted n-grams, refusals, saving."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Record
from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.labels import Labels, LabelsConfig, read_document_labels
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import ComponentConfig
from cclm_core.training.loop import train
from cclm_core.training.run import TrainingInputs
from tests.corpora import encode, records
from tests.training.trainings import SHAPE

PREPROCESSOR = Preprocessor(alphabet="ab")
TEXTS = {"one": ("red cherries and plums", "fruit"), "two": ("oak", "tree"), "three": ("birch and beech trees", "tree")}


def record(name: str, text: str, label: str | None, split: str = "train") -> Record:
    return Record(name, text, label=label, split=split)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    corpus = [record(name, text, label) for name, (text, label) in TEXTS.items()]
    corpus += [record("four", "no label at all here", None), record("v", "a new label here", "animal", "validation")]
    corpus.append(record("t", "pears and cherries", "fruit", "test"))
    return encode(tmp_path_factory.mktemp("labels") / "encoded", corpus)


def objective(corpus: EncodedCorpus, noise: float = 0.0, **values: int) -> Labels:
    context = ObjectiveContext(
        width=SHAPE.encoder.width,
        preprocessor=corpus.preprocessor,
        noise=TrainingNoise(rate=noise),
        document_labels=corpus.document_labels,
    )
    return LabelsConfig(**values).build(context)


def texts(corpus: EncodedCorpus, task: Labels, split: str = "train", length: int = 100) -> list[tuple[str, str]]:
    example = task.example(Windows(corpus.split(split), length).fixed(9, 1), derive(1), training=False)
    labels = [task.labels[number] for number in example.targets["labels"].tolist()]
    return [
        (corpus.preprocessor.decode(row[row > 0].tolist()), label)
        for row, label in zip(example.ids.numpy(), labels, strict=True)
    ]


def test_every_long_enough_document_with_a_known_label_is_a_text(labeled: EncodedCorpus) -> None:
    assert labeled.document_labels == ("fruit", "tree")
    # All documents are in one window, which allows two texts.
    assert texts(labeled, objective(labeled, min_characters=4)) == [TEXTS["one"], TEXTS["three"]]
    assert len(texts(labeled, objective(labeled, min_characters=1))) == 2
    assert texts(labeled, objective(labeled), "validation") == []
    assert texts(labeled, objective(labeled), "test") == [("pears and cherries", "fruit")]


def test_the_labels_of_the_training_documents_are_read_once(labeled: EncodedCorpus, tmp_path: Path) -> None:
    folder = shutil.copytree(labeled.folder, tmp_path / "encoded")
    corpus = EncodedCorpus.open(folder)
    task, held_out = objective(corpus), corpus.split("test")
    (folder / "train.documents.parquet").unlink()
    assert held_out.labels_at(np.array([0])).tolist() == [task.labels.index("fruit")]


def test_parts_of_a_cut_document_share_its_label(labeled: EncodedCorpus) -> None:
    parts = texts(labeled, objective(labeled, min_characters=1), length=12)
    assert ("red cherries", "fruit") in parts and (" and plums", "fruit") in parts
    assert all(label == "tree" for text, label in parts if "ch tree" in text or "oak" in text)


def test_noise_changes_texts_in_training_only(labeled: EncodedCorpus) -> None:
    task, batch = objective(labeled, noise=0.5, min_characters=4), Windows(labeled.split("train"), 100).fixed(9, 1)
    clean, noised = (task.example(batch, derive(1), training).ids for training in (False, True))
    assert clean.shape == noised.shape and not torch.equal(clean, noised)


def test_counted_ngrams_with_this_objective_learn_the_labels(tmp_path: Path) -> None:
    corpus = encode(tmp_path / "encoded", records(200))
    with seeded_initialization(1):
        base = Embedder(corpus.preprocessor, SHAPE).eval()
    config = ComponentConfig.parse(
        {
            "task": {"objective": "labels"},
            "embedding": {"kind": "characters", "width": 16, "ngram_buckets": 512},
            "encoder": {"kind": "none"},
            "training": {"steps": 60, "batch_size": 8, "window": 64, "evaluate_every": 60, "learning_rate": 0.02},
        },
        "component",
    )
    inputs = TrainingInputs(corpus=corpus, noise=TrainingNoise(rate=0.02))
    component, task = new_component(base, "counts", config, 1, inputs)
    assert task is not None
    curve = train(
        component_module(base, component, task), inputs.data(config.training), config.training, 1, None, null_report
    )
    assert curve[0]["held_out_label_accuracy"] < 0.8 < 0.9 < curve[-1]["held_out_label_accuracy"]


def test_a_corpus_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least two labels, got 0\. Set ingest\.source\.columns\.label"):
        LabelsConfig().build(ObjectiveContext(width=4, preprocessor=PREPROCESSOR))
    many = tuple(map(str, range(1001)))
    with pytest.raises(ConfigError, match=r"at most 1,000 labels, got more"):
        LabelsConfig().build(ObjectiveContext(width=4, preprocessor=PREPROCESSOR, document_labels=many))


def test_the_labels_are_saved_with_the_head(tmp_path: Path, labeled: EncodedCorpus) -> None:
    assert read_document_labels(tmp_path) == ()
    objective(labeled).save(tmp_path)
    assert read_document_labels(tmp_path) == ("fruit", "tree")
    (tmp_path / "document_labels.json").write_text('{"format": "other"}')
    with pytest.raises(ArtifactError, match=r"document_labels\.json must have format"):
        read_document_labels(tmp_path)


def test_identifiers_are_not_read_to_the_end(tmp_path: Path) -> None:
    rows = [record(f"{number}", f"text number {number}", f"{number:05}") for number in range(5000)]
    rows += [record("v", "a", None, "validation"), record("t", "a", None, "test")]
    assert len(encode(tmp_path / "encoded", rows).document_labels) == 1001
