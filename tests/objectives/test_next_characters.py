"""Next characters: the right targets, none behind the window, none that can be seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Example, ObjectiveContext
from cclm_core.objectives.next_characters import NextCharacters, NextCharactersConfig
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import derive, seeded_initialisation
from cclm_core.text.vocabulary import END, Preprocessor
from cclm_core.training.module import TrainingModule
from tests.corpora import encode, records
from tests.encoders.shapes import CAUSAL, CONFIGS, REACH, embedder, text

PREPROCESSOR = Preprocessor(alphabet="abcdefgh. ")


def objective(num_ahead: int = 1, rate: float = 0.0, preprocessor: Preprocessor = PREPROCESSOR) -> NextCharacters:
    with seeded_initialisation(1):
        context = ObjectiveContext(width=24, preprocessor=preprocessor, noise=TrainingNoise(rate=rate))
        return NextCharactersConfig(num_ahead=num_ahead).build(context)


def batch(*rows: str) -> WindowBatch:
    """Rows of documents, each ended by |."""
    ids = [np.concatenate([PREPROCESSOR.encode(c) if c != "|" else [END] for c in row]) for row in rows]
    whole = np.zeros((len(rows), max(map(len, ids))), dtype=np.int64)
    for row, some in zip(whole, ids, strict=True):
        row[: len(some)] = some
    return WindowBatch(whole, np.zeros(whole.shape, dtype=np.uint8), np.array([len(some) for some in ids]))


def wanted(example: Example) -> list[tuple[int, str]]:
    """Of each place that has targets, what they are."""
    letters = {END: "|"} | dict(enumerate(PREPROCESSOR.alphabet, start=260))
    rows = example.targets["ids"].tolist()
    shown = ["".join(letters.get(id_, "") for id_ in row) for row in rows]
    return list(zip(example.targets["places"].tolist(), shown, strict=True))


def test_the_targets_are_the_next_characters_and_the_end_alone_tells_how_the_next_document_begins() -> None:
    example = objective().example(batch("abc|de", "fg"), derive(1), training=False)
    assert wanted(example) == [(0, "b"), (1, "c"), (2, "|"), (3, "d"), (4, "e"), (6, "g")]
    example = objective(3).example(batch("abc|de", "fg"), derive(1), training=False)
    assert wanted(example) == [(0, "bc|"), (1, "c|"), (2, "|"), (3, "de"), (4, "e"), (6, "g")]


def test_an_empty_batch_has_no_targets_and_no_loss() -> None:
    head = objective(2)
    empty = WindowBatch(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.uint8), np.zeros(2, np.int64))
    example = head.example(empty, derive(1), training=True)
    loss, metrics = head.loss(torch.zeros(2, 0, 24), example)
    assert loss.item() == 0 and metrics["bits_per_character"].number == 0


def test_under_noise_the_target_is_never_among_the_characters_that_were_read() -> None:
    """Every place asks for what follows the furthest clean character that it, or one before it, came from."""
    text = "abcdefgh. " * 30
    head, clean = objective(2, rate=0.5), batch(text)
    for seed in range(5):
        noised = head.noised(clean, derive(seed), training=True)
        example = head.example(clean, derive(seed), training=True)
        assert torch.equal(example.ids, torch.from_numpy(noised.ids)) and not np.array_equal(noised.ids, clean.ids)
        assert len(example.targets["places"]) > 250
        for place, ids in zip(example.targets["places"].tolist(), example.targets["ids"].tolist(), strict=True):
            furthest = int(noised.source[0, : place + 1].max())
            assert ids[0] == clean.ids[0, furthest + 1]
            if furthest + 2 < len(text):
                assert ids[1] == clean.ids[0, furthest + 2]


def test_a_character_of_several_bytes_counts_once() -> None:
    head = objective()
    example = head.example(batch("aéb", "a—b"), derive(1), training=False)
    features = torch.zeros(2, 5, 24)
    sums = head.loss(features, example)[1]["bits_per_character"]
    assert example.targets["ids"].numel() == 7 and sums.number == 4
    with torch.no_grad():
        head.head.bias.zero_()
    even = head.loss(features, example)[1]["bits_per_character"]
    assert even.total == pytest.approx(7 * np.log2(PREPROCESSOR.num_ids), rel=1e-5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    folder: Path = tmp_path_factory.mktemp("corpus") / "encoded"
    return encode(folder, records(40))


@pytest.mark.parametrize("name", CAUSAL)
def test_no_loss_at_a_place_depends_on_what_comes_after_its_targets(corpus: EncodedCorpus, name: str) -> None:
    """A leak test from ids to loss: what stands behind the targets of a place may be anything."""
    base = Embedder(corpus.preprocessor, embedder(CAUSAL[name]).config).eval()
    head = objective(2, preprocessor=corpus.preprocessor)
    clean = Windows(corpus.split("train"), 40).fixed(2, seed=1)
    for cut in (10, 19):
        other = clean._replace(ids=clean.ids.copy())
        other.ids[:, cut + 3 :] = np.where(other.ids[:, cut + 3 :] == 260, 261, 260)
        losses = []
        for one in (clean, other):
            example = head.example(one, derive(1), training=False)
            kept = example.targets["places"] % 40 <= cut
            example = Example(example.ids, {name: part[kept] for name, part in example.targets.items()})
            losses.append(head.loss(base(example.ids), example)[0])
        torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_loss_at_a_place_has_gradients_from_every_place_up_to_it_and_from_none_behind(name: str) -> None:
    """Typing noise included: the texts are noised, and the last row is shorter than the others."""
    base, head = embedder(CAUSAL[name]), objective(2, 0.1, embedder(CAUSAL[name]).preprocessor)
    ids = torch.cat([text(30, 1), text(30, 2), nn.functional.pad(text(21, 3), (0, 9))]).numpy()
    clean = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([30, 30, 21]))
    whole = head.example(clean, derive(4), training=True)
    embedded = base.embedding(whole.ids).detach().requires_grad_()
    features = base.encoder(embedded, whole.ids != 0, base.word_starts(whole.ids))
    length, reach = whole.ids.shape[1], REACH.get(name, 30)
    for number, place in enumerate(whole.targets["places"].tolist()):
        one = Example(whole.ids, {key: part[number : number + 1] for key, part in whole.targets.items()})
        (gradient,) = torch.autograd.grad(head.loss(features, one)[0], embedded, retain_graph=True)
        row, at = divmod(place, length)
        strength = gradient.abs().amax(-1)
        assert (strength[row, max(0, at - reach) : at + 1] > 0).all()
        strength[row, : at + 1] = 0
        assert (strength == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_that_looks_ahead_is_refused(name: str) -> None:
    config: EncoderConfig = CONFIGS[name]
    message = rf"NextCharacters predicts later characters .* the base \({config.kind}, causal: false\) is not"
    with pytest.raises(ConfigError, match=message):
        TrainingModule(embedder(config), [(objective(), 1.0)])
