"""Distillation: complete texts, noise on the student's side only, teachers, stored vectors, losses, learning."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.distill import Distill, DistillConfig
from cclm_core.objectives.spans import complete_texts
from cclm_core.objectives.teachers import HuggingfaceTeacherConfig, TeacherOutputs, VectorsTeacherConfig
from cclm_core.objectives.teachers.base import Teacher
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, Preprocessor
from tests.corpora import encode, records
from tests.objectives import teachers
from tests.training.trainings import SHAPE, encoder_for

PREPROCESSOR = Preprocessor(alphabet='abcdefghijklmnopqrstuvwxyz .!?"\n')


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return teachers.vectors(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(120))


def objective(corpus: EncodedCorpus, teacher: dict[str, Any], folder: Path | None = None, **values: Any) -> Distill:
    context = ObjectiveContext(
        width=SHAPE.encoder.width,
        preprocessor=corpus.preprocessor,
        noise=TrainingNoise(rate=0.2),
        teacher_outputs=folder,
    )
    with seeded_initialization(1):
        return DistillConfig.parse({"teacher": teacher, "unit": "documents", **values}, "task").build(context)


def texts_of(*rows: str, documents: bool = False) -> list[str]:
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, text in zip(ids, rows, strict=True):
        row[: len(text)] = [END if c == "|" else PREPROCESSOR.encode(c)[0] for c in text]
    spans = complete_texts(ids, PREPROCESSOR, documents)
    return [PREPROCESSOR.decode(ids[span.row, span.start : span.stop].tolist()) for span in spans]


def test_only_complete_sentences_and_documents_are_texts() -> None:
    rows = ('cut. one two. "three?" four\nfive| six! .seven|eight', "nine. ten|", "||eleven")
    assert texts_of(*rows) == ["one two.", '"three?"', "four", "five", "six!", ".seven", "ten"]
    assert texts_of(*rows, documents=True) == ["six! .seven"]


def test_texts_do_not_depend_on_the_window(corpus: EncodedCorpus) -> None:
    windows, sentences = Windows(corpus.split("train"), 64), {record.text for record in records(120)}
    for number in range(4):
        ids = windows.batch(number, 8, 1).ids
        spans = complete_texts(ids, corpus.preprocessor, documents=True)
        assert spans and {corpus.preprocessor.decode(ids[r, a:b].tolist()) for r, a, b in spans} <= sentences


def test_the_teacher_reads_clean_texts_and_the_student_noisy_ones(
    corpus: EncodedCorpus, vectors: dict[str, Any]
) -> None:
    head = objective(corpus, vectors, targets="texts_and_words")
    batch = Windows(corpus.split("train"), 64).batch(0, 8, 1)
    held_out, noisy = (head.example(batch, derive(2), training) for training in (False, True))
    assert torch.equal(held_out.targets["vectors"], noisy.targets["vectors"])
    assert not torch.equal(held_out.ids, noisy.ids)
    clean = [corpus.preprocessor.decode(row[row > 0].tolist()) for row in held_out.ids]
    teacher = VectorsTeacherConfig.model_validate(vectors).open()
    assert np.array_equal(held_out.targets["vectors"].numpy(), teacher.vectors(clean))
    words = [word for text in clean for word in text.rstrip(".").split()]
    assert np.array_equal(held_out.targets["word_vectors"].numpy(), teacher.vectors(words))
    owner = held_out.targets["words"].numpy()
    assert np.bincount(owner).tolist() == list(map(len, words))


def test_losses_of_known_vectors(corpus: EncodedCorpus, vectors: dict[str, Any]) -> None:
    head = objective(corpus, vectors, cosine_weight=2.0, similarity_weight=3.0)
    teacher = nn.functional.normalize(torch.randn(4, 12, generator=torch.Generator().manual_seed(1)))
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))[0]
    loss, metrics = head._compare(teacher @ rotation, teacher)
    distance = float((1 - (teacher @ rotation * teacher).sum(1)).mean())
    assert metrics["similarity_error"].total == pytest.approx(0, abs=1e-5), "a rotation keeps similarities"
    assert loss.item() == pytest.approx(2 * distance, rel=1e-4)
    unknown = torch.cat([teacher, torch.zeros(1, 12)])
    again, counted = head._compare(torch.cat([teacher @ rotation, teacher[:1]]), unknown)
    assert counted["cosine_distance"].number == 4 and again.item() == pytest.approx(loss.item())


class Counting(Teacher):
    """Counts the texts that another teacher reads."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.width = teacher, teacher.width
        self.texts: list[str] = []

    def vectors(self, texts: Any) -> Any:
        """Counts and computes."""
        self.texts += texts
        return self.teacher.vectors(texts)


class CountingConfig(VectorsTeacherConfig):
    """Opens the same counting teacher again and again."""

    _teachers: ClassVar[dict[str, Counting]] = {}

    def open(self) -> Counting:
        """The teacher of this source."""
        return self._teachers.setdefault(str(self.source), Counting(super().open()))


def test_a_text_is_read_once_by_all_processes_that_share_a_folder(vectors: dict[str, Any], tmp_path: Path) -> None:
    config = CountingConfig.model_validate(vectors)
    teacher = config.open()
    first, second = TeacherOutputs(config, tmp_path), TeacherOutputs(config, tmp_path)
    texts = ["Viola loves the sea.", "his ring", "his ring", ""]
    expected = first(texts)
    assert (
        expected.shape == (4, 12)
        and not expected[3].any()
        and teacher.texts == ["Viola loves the sea.", "his ring", ""]
    )
    assert np.array_equal(TeacherOutputs(config, tmp_path)(texts), expected) and len(teacher.texts) == 3
    second(["the letter"])
    assert np.array_equal(second(texts), expected) and len(teacher.texts) == 4, "the second one must read the first's"
    assert copy.deepcopy(TeacherOutputs(config, None))([]).shape == (0, 12)


def test_a_checkpoint_of_transformers_teaches_texts(corpus: EncodedCorpus, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = HuggingfaceTeacherConfig.model_validate(teachers.checkpoint(tmp_path / "bert"))
    teacher = config.open()
    texts = ["Viola loves the sea.", "the letter", "", "the letter " * 40]
    rows = teacher.vectors(texts)
    assert rows.shape == (4, 16) and not rows[2].any()
    assert np.allclose(np.linalg.norm(rows[[0, 1, 3]], axis=1), 1)
    assert np.array_equal(rows[1:2], teacher.vectors(texts[1:2])), "the batch must not matter"
    model: Any = teacher._model  # type: ignore[attr-defined]
    tokens = torch.tensor([[teachers.WORDS.index(word) for word in ("the", "letter")]])
    with torch.no_grad():
        mean: Tensor = model(tokens).last_hidden_state[0].mean(0)
    assert np.allclose(rows[1], nn.functional.normalize(mean, dim=0).numpy(), atol=1e-6)
    head = objective(corpus, config.canonical())
    example = head.example(Windows(corpus.split("train"), 64).batch(0, 8, 1), derive(2), training=True)
    assert example.targets["vectors"].shape == (len(example.ids), 16)
    with pytest.raises(ConfigError, match=r"targets: words needs a teacher with vectors of words, but the teacher hug"):
        objective(corpus, config.canonical(), targets="words")


def test_words_are_learned(corpus: EncodedCorpus, vectors: dict[str, Any]) -> None:
    head = objective(corpus, vectors, targets="words")
    with seeded_initialization(2):
        encoder = encoder_for(corpus.preprocessor, head)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=4e-3)
    windows = Windows(corpus.split("train"), 64)
    for step in range(60):
        example = head.example(windows.batch(step, 8, 1), derive(1, step), training=True)
        loss, _ = head.loss(encoder(example.ids), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = head.example(Windows(corpus.split("test"), 64).fixed(8, 1), derive(2), training=False)
    with torch.no_grad():
        sums = head.loss(encoder.eval()(test.ids), test)[1]["cosine_distance"]
    assert sums.total / sums.number < 0.15


def test_no_complete_text_gives_no_targets_and_no_loss(corpus: EncodedCorpus, vectors: dict[str, Any]) -> None:
    head = objective(corpus, vectors, targets="texts_and_words")
    ids = corpus.preprocessor.encode("Viola loves the sea. ").astype(np.int64)[None]
    batch = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([ids.shape[1]]))
    example = head.example(batch, derive(1), training=True)
    loss, metrics = head.loss(torch.zeros(*example.ids.shape, SHAPE.encoder.width, requires_grad=True), example)
    assert loss.item() == 0 and loss.requires_grad and metrics["cosine_distance"].number == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": None}, ConfigError, r"teacher\.source is missing\. Name a folder with one \*\.safetensors and"),
        ({"source": "no/such"}, ConfigError, r"source 'no/such' not found\. Put the file there"),
        ({"source": "package:no_such"}, ConfigError, r"the package no_such is not installed\. Install it, or write"),
        ({"source": "package:json"}, ArtifactError, r"must contain one file \*\.safetensors, got none"),
        ({"sha256": None}, ConfigError, r"teacher needs sha256, .* Add `sha256: [0-9a-f]{64}, width: 12`"),
        ({"width": None}, ConfigError, r"and width\. Add `sha256: [0-9a-f]{64}, width: 12`"),
        ({"width": 13}, ConfigError, "teacher.width must be 12, the width of .*, got 13"),
        ({"sha256": "0" * 64}, IntegrityError, r"has the SHA-256 [0-9a-f]{64}, but the configuration expects 0000"),
    ],
)
def test_a_wrong_teacher_is_refused(
    corpus: EncodedCorpus, vectors: dict[str, Any], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        objective(corpus, vectors | change).example(
            Windows(corpus.split("train"), 64).batch(0, 8, 1), derive(1), training=True
        )


def test_a_saved_head_is_loaded_without_the_teacher(
    corpus: EncodedCorpus, vectors: dict[str, Any], tmp_path: Path
) -> None:
    head = objective(corpus, vectors)
    head.save(tmp_path)
    elsewhere = objective(corpus, vectors | {"source": "not/here"})
    elsewhere.load_head(tmp_path)
    assert all(torch.equal(tensor, elsewhere.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_vectors_that_do_not_fit_their_tokenizer_are_refused(corpus: EncodedCorpus, tmp_path: Path) -> None:
    from cclm_core.encoders.weights import save_weights

    config = teachers.vectors(tmp_path)
    save_weights({"a": torch.zeros(3, 4)}, tmp_path / "vectors.safetensors")
    config["sha256"] = teachers.digest(tmp_path, "vectors.safetensors", "tokenizer.json")
    with pytest.raises(ArtifactError, match=r"must have one matrix with at least \d+ rows, .* got \{'a': \(3, 4\)\}"):
        VectorsTeacherConfig.model_validate(config).open()
    with pytest.raises(ConfigError, match="cosine_weight or similarity_weight above 0"):
        objective(corpus, config, cosine_weight=0, similarity_weight=0)
