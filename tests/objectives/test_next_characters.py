"""Next characters: correct targets, within the window, that the input does not reveal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.applications.language_model import LanguageModel
from cclm_core.composition import ComposedModel, save
from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Example, ObjectiveContext
from cclm_core.objectives.next_characters import NextCharacters, NextCharactersConfig
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, Preprocessor
from cclm_core.training.config import ComponentConfig
from cclm_core.training.module import TrainingModule
from tests.corpora import encode, records
from tests.encoders.shapes import CAUSAL, CONFIGS, MIN_CONTEXT, embedder, text

PREPROCESSOR = Preprocessor(alphabet="abcdefgh. ")


def objective(num_ahead: int = 1, rate: float = 0.0, preprocessor: Preprocessor = PREPROCESSOR) -> NextCharacters:
    with seeded_initialization(1):
        context = ObjectiveContext(width=24, preprocessor=preprocessor, noise=TrainingNoise(rate=rate))
        return NextCharactersConfig(num_ahead=num_ahead).build(context)


def batch(*rows: str) -> WindowBatch:
    """Rows of documents; | is the end of a document."""
    ids = [np.concatenate([PREPROCESSOR.encode(c) if c != "|" else [END] for c in row]) for row in rows]
    padded = np.zeros((len(rows), max(map(len, ids))), dtype=np.int64)
    for row, content in zip(padded, ids, strict=True):
        row[: len(content)] = content
    return WindowBatch(padded, np.zeros(padded.shape, dtype=np.uint8), np.array([len(content) for content in ids]))


def target_texts(example: Example) -> list[tuple[int, str]]:
    """Position -> its targets, as text."""
    letters = {END: "|"} | dict(enumerate(PREPROCESSOR.alphabet, start=260))
    rows = example.targets["ids"].tolist()
    texts = ["".join(letters.get(id_, "") for id_ in row) for row in rows]
    return list(zip(example.targets["positions"].tolist(), texts, strict=True))


def test_targets_do_not_cross_the_end_of_a_document_except_at_the_end_itself() -> None:
    example = objective().example(batch("abc|de", "fg"), derive(1), training=False)
    assert target_texts(example) == [(0, "b"), (1, "c"), (2, "|"), (3, "d"), (4, "e"), (6, "g")]
    example = objective(3).example(batch("abc|de", "fg"), derive(1), training=False)
    assert target_texts(example) == [(0, "bc|"), (1, "c|"), (2, "|"), (3, "de"), (4, "e"), (6, "g")]


def test_an_empty_batch_has_no_targets_and_no_loss() -> None:
    head = objective(2)
    empty = WindowBatch(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.uint8), np.zeros(2, np.int64))
    example = head.example(empty, derive(1), training=True)
    loss, metrics = head.loss(torch.zeros(2, 0, 24), example)
    assert loss.item() == 0 and metrics["bits_per_character"].number == 0


def test_with_noise_the_targets_are_characters_not_yet_read() -> None:
    """The targets at a position follow the last clean character that any input up to there came from."""
    text = "abcdefgh. " * 30
    head, clean = objective(2, rate=0.5), batch(text)
    for seed in range(5):
        noised = head.noised(clean, derive(seed), training=True)
        example = head.example(clean, derive(seed), training=True)
        assert torch.equal(example.ids, torch.from_numpy(noised.ids)) and not np.array_equal(noised.ids, clean.ids)
        assert len(example.targets["positions"]) > 250
        for position, ids in zip(example.targets["positions"].tolist(), example.targets["ids"].tolist(), strict=True):
            latest = int(noised.source[0, : position + 1].max())
            assert ids[0] == clean.ids[0, latest + 1]
            if latest + 2 < len(text):
                assert ids[1] == clean.ids[0, latest + 2]


def test_a_character_of_several_bytes_counts_once() -> None:
    head = objective()
    example = head.example(batch("aéb", "a—b"), derive(1), training=False)
    features = torch.zeros(2, 5, 24)
    sums = head.loss(features, example)[1]["bits_per_character"]
    assert example.targets["ids"].numel() == 7 and sums.number == 4
    with torch.no_grad():
        head.head.bias.zero_()
    uniform = head.loss(features, example)[1]["bits_per_character"]
    assert uniform.total == pytest.approx(7 * np.log2(PREPROCESSOR.num_ids), rel=1e-5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    folder: Path = tmp_path_factory.mktemp("corpus") / "encoded"
    return encode(folder, records(40))


@pytest.mark.parametrize("name", CAUSAL)
def test_no_loss_depends_on_characters_after_its_targets(corpus: EncodedCorpus, name: str) -> None:
    """A leak test from ids to loss: characters after the targets can be anything."""
    base = Embedder(corpus.preprocessor, embedder(CAUSAL[name]).config).eval()
    head = objective(2, preprocessor=corpus.preprocessor)
    clean = Windows(corpus.split("train"), 40).fixed(2, seed=1)
    for cut in (10, 19):
        changed = clean._replace(ids=clean.ids.copy())
        changed.ids[:, cut + 3 :] = np.where(changed.ids[:, cut + 3 :] == 260, 261, 260)
        losses = []
        for windows in (clean, changed):
            example = head.example(windows, derive(1), training=False)
            is_before = example.targets["positions"] % 40 <= cut
            example = Example(example.ids, {name: tensor[is_before] for name, tensor in example.targets.items()})
            losses.append(head.loss(base(example.ids), example)[0])
        torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CAUSAL)
def test_each_loss_has_gradients_from_all_earlier_positions_and_no_later_ones(name: str) -> None:
    """With typing noise, and a last row that is shorter than the others."""
    base, head = embedder(CAUSAL[name]), objective(2, 0.1, embedder(CAUSAL[name]).preprocessor)
    ids = torch.cat([text(30, 1), text(30, 2), nn.functional.pad(text(21, 3), (0, 9))]).numpy()
    clean = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([30, 30, 21]))
    example = head.example(clean, derive(4), training=True)
    embedded = base.embedding(example.ids).detach().requires_grad_()
    features = base.encoder(embedded, example.ids != 0, base.word_starts(example.ids))
    length, context = example.ids.shape[1], MIN_CONTEXT.get(name, 30)
    for index, position in enumerate(example.targets["positions"].tolist()):
        single = Example(example.ids, {key: tensor[index : index + 1] for key, tensor in example.targets.items()})
        (gradient,) = torch.autograd.grad(head.loss(features, single)[0], embedded, retain_graph=True)
        row, column = divmod(position, length)
        strength = gradient.abs().amax(-1)
        assert (strength[row, max(0, column - context) : column + 1] > 0).all()
        strength[row, : column + 1] = 0
        assert (strength == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bidirectional_encoder_is_refused(name: str) -> None:
    config: EncoderConfig = CONFIGS[name]
    message = rf"NextCharacters predicts later characters .* the base \({config.kind}, causal: false\) is not"
    with pytest.raises(ConfigError, match=message):
        TrainingModule(embedder(config), [(objective(), 1.0)])


def backward(rate: float = 0.0, num_ahead: int = 1, preprocessor: Preprocessor = PREPROCESSOR) -> NextCharacters:
    context = ObjectiveContext(width=24, preprocessor=preprocessor, noise=TrainingNoise(rate=rate))
    with seeded_initialization(1):
        return NextCharactersConfig(num_ahead=num_ahead, direction="backward").build(context)


def component(config: EncoderConfig, preprocessor: Preprocessor) -> OverBase:
    """A component that reads backward over a base that it does not use."""
    with seeded_initialization(1):
        base = Embedder(preprocessor, embedder(CONFIGS["hourglass-4"]).config)
        card = ComponentCard.over(base, "before", "next_characters", config, independent=True, backward=True)
        return OverBase(base, Component(card)).eval()


def test_backward_targets_are_the_characters_before_in_reading_order() -> None:
    example = backward(num_ahead=2).example(batch("abc|de", "fg"), derive(1), training=False)
    expected = [(1, "a"), (2, "ba"), (3, "cb"), (4, "|"), (5, "d|"), (7, "f")]
    assert target_texts(example) == expected
    assert torch.equal(example.ids, torch.from_numpy(batch("abc|de", "fg").ids))


def test_backward_bits_equal_forward_bits_of_the_reversed_text() -> None:
    """A model that knows nothing has the same code length in both directions."""
    sums = []
    for head, row in ((backward(), "|abc|de|"), (objective(), "|ed|cba|")):
        with torch.no_grad():
            head.head.bias.zero_()
        example = head.example(batch(row), derive(1), training=False)
        sums.append(head.loss(torch.zeros(1, 8, 24), example)[1]["bits_per_character"])
    assert sums[0] == sums[1] and sums[0].number == 7


def test_with_noise_the_backward_targets_are_characters_not_yet_read() -> None:
    text = "abcdefgh. " * 30
    head, clean = backward(rate=0.5), batch(text)
    for seed in range(5):
        noised = head.noised(clean, derive(seed), training=True)
        example = head.example(clean, derive(seed), training=True)
        assert len(example.targets["positions"]) > 250
        for position, (id_,) in zip(
            example.targets["positions"].tolist(), example.targets["ids"].tolist(), strict=True
        ):
            read = noised.source[0, position:]
            assert id_ == clean.ids[0, int(read[read >= 0].min()) - 1]


@pytest.mark.parametrize("name", CAUSAL)
def test_no_backward_loss_depends_on_characters_before_its_targets(corpus: EncodedCorpus, name: str) -> None:
    """A leak test from ids to loss, with rows of different lengths: earlier characters can be anything."""
    encoder = component(CAUSAL[name], corpus.preprocessor)
    assert encoder.anticausal and not encoder.causal
    with seeded_initialization(1):
        context = ObjectiveContext(width=encoder.component.width, preprocessor=corpus.preprocessor)
        head = NextCharactersConfig(num_ahead=2, direction="backward").build(context)
    clean = Windows(corpus.split("train"), 40).fixed(2, seed=1)
    clean.ids[1, 31:] = 0
    clean = clean._replace(lengths=np.array([40, 31]))
    for cut in (10, 19):
        changed = clean._replace(ids=clean.ids.copy())
        changed.ids[:, : cut - 2] = np.where(changed.ids[:, : cut - 2] == 260, 261, 260)
        losses = []
        for windows in (clean, changed):
            example = head.example(windows, derive(1), training=False)
            is_after = example.targets["positions"] % 40 >= cut
            example = Example(example.ids, {key: tensor[is_after] for key, tensor in example.targets.items()})
            assert len(example.targets["positions"])
            losses.append(head.loss(encoder(example.ids), example)[0])
        torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=0)
    alone, padded = torch.from_numpy(clean.ids[1:, :31]), torch.from_numpy(clean.ids[1:])
    torch.testing.assert_close(encoder(alone), encoder(padded)[:, :31], atol=1e-5, rtol=1e-5)


def test_a_backward_component_is_saved_and_composed(corpus: EncodedCorpus, tmp_path: Path) -> None:
    encoder = component(CAUSAL["causal-hourglass-4"], corpus.preprocessor)
    composed = ComposedModel(encoder.base, [encoder.component], "both").eval()
    assert not composed.causal
    save(composed, tmp_path / "composition")
    ids = torch.from_numpy(Windows(corpus.split("train"), 40).fixed(2, seed=1).ids)
    loaded = load_composition(tmp_path / "composition")
    assert torch.equal(loaded(ids), composed(ids)) and loaded.digest == composed.digest


def test_backward_needs_a_component_of_its_own(corpus: EncodedCorpus) -> None:
    with pytest.raises(ConfigError, match="direction: backward predicts earlier characters and needs a component"):
        TrainingModule(embedder(CAUSAL["causal-hourglass-4"]), [(backward(), 1.0)])
    values: dict[str, Any] = {"task": {"objective": "next_characters", "direction": "backward"}}
    with pytest.raises(ConfigError, match=r"got independent: false and causal: true; set `independent: true`"):
        ComponentConfig.parse(values | {"encoder": {"causal": True}}, "components.before")
    with pytest.raises(CompositionError, match="reads backward needs its own embedding of characters: 'before'"):
        ComponentCard.over(
            embedder(CAUSAL["causal-hourglass-4"]), "before", "x", CAUSAL["causal-hourglass-4"], backward=True
        )
    with pytest.raises(ConfigError, match="this component predicts earlier characters"):
        encoder = component(CAUSAL["causal-hourglass-4"], corpus.preprocessor)
        LanguageModel.of(encoder, backward(), corpus.preprocessor, 16)
    assert "direction" not in NextCharactersConfig().canonical()
