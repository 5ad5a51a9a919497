"""Static vectors as targets: which words, relative losses, formats, sources, learning from visible words."""

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import CharactersConfig
from cclm_core.objectives.base import Example, ObjectiveContext
from cclm_core.objectives.vectors import VectorsConfig, VectorsObjective, loss_of_mean
from cclm_core.objectives.windowed import shared_examples
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, IntegrityError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.steps.params import Params
from cclm_core.text.vocabulary import MASK, Preprocessor
from cclm_core.training.config import ComponentConfig
from tests.corpora import encode, records
from tests.encoders.pretrained.sources import write_vectors
from tests.objectives import teachers
from tests.training.trainings import SHAPE, encoder_for

PREPROCESSOR = Preprocessor(alphabet="abcdefghijklmnopqrstuvwxyz ABC.,'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(120))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return teachers.word_vectors(tmp_path_factory.mktemp("vectors") / "words.txt")


def settings(path: Path, width: int = 4) -> dict[str, Any]:
    """The keys of a source."""
    with pytest.raises(ConfigError) as missing:
        VectorsConfig(source=str(path)).require_digest("task")
    digest, given = str(missing.value).split("Add `sha256: ")[1].split("`")[0].split(", width: ")
    assert int(given) == width
    return {"source": str(path), "sha256": digest, "width": width}


def objective(preprocessor: Preprocessor, values: dict[str, Any], noise: float = 0.0, **more: Any) -> VectorsObjective:
    context = ObjectiveContext(width=SHAPE.encoder.width, preprocessor=preprocessor, noise=TrainingNoise(rate=noise))
    with seeded_initialization(1):
        return VectorsConfig.parse({**values, **more}, "task").build(context)


def batch_of(*rows: str) -> WindowBatch:
    ids = [PREPROCESSOR.encode(row).astype(np.int64) for row in rows]
    lengths = np.array(list(map(len, ids)))
    padded = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for row, content in zip(padded, ids, strict=True):
        row[: len(content)] = content
    return WindowBatch(padded, np.zeros(padded.shape, np.uint8), lengths)


def words_of(example: Example, batch: WindowBatch) -> list[str]:
    """The characters of each target word in the clean batch."""
    positions, words = example.targets["positions"].numpy(), example.targets["words"].numpy()
    flat = batch.ids.reshape(-1)
    return [PREPROCESSOR.decode(flat[positions[words == number]].tolist()) for number in range(words.max() + 1)]


@pytest.mark.parametrize("form", ["text", "word2vec", "binary"])
def test_only_complete_words_with_a_vector_are_targets(tmp_path: Path, form: str) -> None:
    values = settings(write_vectors(tmp_path / "words", form))
    head = objective(PREPROCESSOR, values, rate=0.999, mask_share=0.0)
    batch = batch_of("the The zebra don't 'cat' é york cat", "'sat the cat'", "x sat.", "")
    example = head.example(batch, derive(1), training=True)
    assert words_of(example, batch) == ["The", "don't", "cat", "é", "york", "the", "sat"]
    assert example.targets["counts"].tolist() == [7, 8]
    vectors = example.targets["word_vectors"]
    the, cat = vectors[0], vectors[2]
    assert torch.equal(the, vectors[5]), "The is looked up in lower case"
    table = head._vectors._vectors
    assert table is not None and torch.allclose(table._table.square().sum(1).mean(), torch.tensor(1.0))
    assert not torch.equal(the, cat) and (example.ids != MASK).all()


def test_other_formats_give_vectors(tmp_path: Path) -> None:
    teachers.vectors(tmp_path)
    values = settings(tmp_path, width=12)
    head = objective(PREPROCESSOR, values, rate=0.999)
    example = head.example(batch_of("x the letter unknown x"), derive(1), training=False)
    assert example.targets["counts"].tolist() == [2, 3] and example.targets["word_vectors"].shape == (2, 12)
    assert (example.ids == MASK).sum() == len("xtheletterunknownx"), "masks do not tell which words have a vector"


def test_the_loss_of_the_mean_vector_does_not_depend_on_the_number_of_words() -> None:
    generator = np.random.default_rng(2)
    table = (generator.normal(size=(4000, 8)) + 0.4).astype(np.float32)
    kinds: tuple[Literal["cosine", "l2"], ...] = ("cosine", "l2")
    for kind in kinds:
        whole, _ = loss_of_mean(table, kind)
        parts = [loss_of_mean(part, kind)[0] for part in np.split(table, 200)]
        assert np.mean(parts) == pytest.approx(whole, rel=0.05)
        unit = table / np.linalg.norm(table, axis=1, keepdims=True)
        mean = unit.mean(0) / np.linalg.norm(unit.mean(0))
        exact = (1 - unit @ mean).mean() if kind == "cosine" else ((table - table.mean(0)) ** 2).sum(1).mean()
        assert whole == pytest.approx(float(exact), rel=0.01)
    assert loss_of_mean(table[:1], "l2") == (1.0, 0.0)
    assert loss_of_mean(np.repeat(table[:1], 5, axis=0), "cosine") == (0.05, pytest.approx(1.0))


@pytest.mark.parametrize("loss", ["cosine", "l2"])
def test_the_mean_vector_has_loss_1_whatever_the_scale(corpus: EncodedCorpus, tmp_path: Path, loss: str) -> None:
    """Predicts the mean vector of the words by the bias of the head alone."""
    losses, batch = [], Windows(corpus.split("train"), 64).fixed(48, 1)
    for scale in (1.0, 30.0):
        values = teachers.word_vectors(tmp_path / f"{scale}.txt", scale=scale)
        head = objective(corpus.preprocessor, values, rate=0.999, loss=loss)
        example = head.example(batch, derive(1), training=False)
        vectors = example.targets["word_vectors"]
        unit = torch.nn.functional.normalize(vectors)
        with torch.no_grad():
            head.head.bias.copy_((unit if loss == "cosine" else vectors).mean(0))
        result, metrics = head.loss(torch.zeros(*example.ids.shape, SHAPE.encoder.width), example)
        assert metrics["relative_loss"].total / metrics["relative_loss"].number == pytest.approx(result.item())
        cosines = [metrics[name].total / metrics[name].number for name in ("cosine_similarity", "cosine_of_mean")]
        assert loss == "l2" or cosines[0] == pytest.approx(cosines[1], abs=0.03)
        losses.append(result.item())
    assert losses == [pytest.approx(1, abs=0.05)] * 2 and losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("loss", ["cosine", "l2"])
def test_vectors_of_visible_misspelled_words_are_learned(
    corpus: EncodedCorpus, source: dict[str, Any], loss: str
) -> None:
    head = objective(corpus.preprocessor, source, noise=0.1, rate=0.9, mask_share=0.0, loss=loss)
    with seeded_initialization(2):
        encoder = encoder_for(corpus.preprocessor, head)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=4e-3)
    windows = Windows(corpus.split("train"), 64)
    for step in range(60):
        example = head.training_example(windows.batch(step, 8, 1), derive(1, step), 0.0)
        result, _ = head.loss(encoder(example.ids), example)
        optimizer.zero_grad()
        result.backward()
        optimizer.step()
    test = head.example(Windows(corpus.split("test"), 64).fixed(8, 1), derive(2), training=False)
    with torch.no_grad():
        metrics = head.loss(encoder.eval()(test.ids), test)[1]
    assert metrics["relative_loss"].total / metrics["relative_loss"].number < 0.2
    assert metrics["cosine_similarity"].total / metrics["cosine_similarity"].number > 0.9


def test_it_shares_the_input_of_objectives_that_mask(corpus: EncodedCorpus, source: dict[str, Any]) -> None:
    context = ObjectiveContext(width=SHAPE.encoder.width, preprocessor=corpus.preprocessor)
    characters = CharactersConfig().build(context)
    masking, reading = (objective(corpus.preprocessor, source, mask_share=share) for share in (0.5, 0.0))
    batch = Windows(corpus.split("train"), 64).batch(0, 8, 1)
    made = shared_examples([characters, masking, reading], batch, [derive(1, number) for number in range(3)])
    assert made[0].ids is made[1].ids and made[2].ids is not made[0].ids
    assert np.array_equal(made[2].ids.numpy(), batch.ids) and reading.reads_clean_windows
    assert not masking.reads_clean_windows


def test_a_saved_head_is_loaded_without_the_file(corpus: EncodedCorpus, source: dict[str, Any], tmp_path: Path) -> None:
    head = objective(corpus.preprocessor, source)
    head.save(tmp_path)
    elsewhere = objective(corpus.preprocessor, source | {"source": "not/here"})
    elsewhere.load_head(tmp_path)
    assert all(torch.equal(tensor, elsewhere.state_dict()[name]) for name, tensor in head.state_dict().items())
    assert copy.deepcopy(head)._vectors is head._vectors, "copies share the table"
    with pytest.raises(ConfigError, match=r"source 'not/here' not found"):
        elsewhere.example(Windows(corpus.split("train"), 64).batch(0, 2, 1), derive(1), training=True)


def test_no_known_word_gives_no_loss(source: dict[str, Any]) -> None:
    head = objective(PREPROCESSOR, source, rate=0.999)
    example = head.example(batch_of("zebra zebra zebra", "."), derive(1), training=True)
    features: Tensor = torch.zeros(*example.ids.shape, SHAPE.encoder.width, requires_grad=True)
    loss, metrics = head.loss(features, example)
    assert loss.item() == 0 and loss.requires_grad and metrics["relative_loss"].number == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": None, "sha256": None}, ConfigError, "needs a source. Name a file or folder of word vectors"),
        ({"sha256": None}, ConfigError, r"needs sha256, .* Add `sha256: [0-9a-f]{64}, width: 12`"),
        ({"width": None}, ConfigError, r"and width\. Add `sha256: [0-9a-f]{64}, width: 12`"),
        ({"source": "package:no_such"}, ConfigError, "the package no_such is not installed"),
        ({"width": 13}, ConfigError, "width must be 12, the width of .*, got 13"),
        ({"sha256": "0" * 64}, IntegrityError, r"has the SHA-256 [0-9a-f]{64}, but the configuration expects 0000"),
        ({"loss": "euclid"}, ConfigError, "cosine"),
    ],
)
def test_a_wrong_source_is_refused(
    corpus: EncodedCorpus, source: dict[str, Any], change: dict[str, Any], error: type[CclmError], message: str
) -> None:
    with pytest.raises(error, match=message):
        objective(corpus.preprocessor, source | change).example(
            Windows(corpus.split("train"), 64).batch(0, 8, 1), derive(1), training=True
        )


def test_vectors_of_zeros_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("the 0 0\ncat 0 0\n", encoding="utf-8")
    head = objective(PREPROCESSOR, settings(tmp_path / "words", 2))
    with pytest.raises(ArtifactError, match=r"all vectors of .* are zero"):
        head.example(batch_of("a the cat sat"), derive(1), training=True)


def test_a_file_outside_of_the_input_of_a_pipeline_is_refused(source: dict[str, Any]) -> None:
    params = Params({"components": {"words": {"task": {"objective": "vectors", **source}}}})
    with pytest.raises(ConfigError, match=r"components\.words\.task\.source must be in input/ or package:NAME"):
        params.named(ComponentConfig, "words")
    unknown = {"objective": "vectors", "source": "input/none.txt"}
    with pytest.raises(ConfigError, match=r"source 'input/none\.txt' not found"):
        Params({"components": {"words": {"task": unknown}}}).named(ComponentConfig, "words")
