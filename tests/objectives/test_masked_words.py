"""Masked words: whole words are hidden, nothing but their length is seen, and figures compare between the losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cclm_core.corpus.records import Record
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import NO_NOISE, Example, ObjectiveContext
from cclm_core.objectives.masked_words import MaskedWords, MaskedWordsConfig, choose_words
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import derive, seeded_initialisation
from cclm_core.text.vocabulary import END, MASK, Preprocessor, TargetsConfig
from cclm_core.text.word_targets import WordTargets, read_targets
from tests.corpora import encode
from tests.objectives.test_contract import SHAPE, fit, held_out

TEXT = "The quick brown fox jumps over the lazy dog, doesn't it? Their house is near the naïve sea."
PREPROCESSOR = Preprocessor(alphabet="".join(sorted(set(TEXT) - {"ï"})))
NOISE = TrainingNoise(rate=0.3, kinds=list(CATALOGUE))
MISSPELT = {"their": {"thier": 1}, "house": {"hause": 1, "hoouse": 1}}
WIDTH = 24


def targets_of(kind: Any = "words", **settings: Any) -> WordTargets:
    config = TargetsConfig(kind=kind, min_count=1, **settings)
    return WordTargets.fit([TEXT], config, PREPROCESSOR).counted([TEXT])


def objective(
    words: WordTargets | None = None, noise: TrainingNoise | None = None, width: int = WIDTH, **settings: Any
) -> MaskedWords:
    with seeded_initialisation(1):
        context = ObjectiveContext(
            width=width,
            preprocessor=PREPROCESSOR,
            noise=noise or NO_NOISE,
            misspellings=MISSPELT,
            words=words or targets_of(),
        )
        return MaskedWordsConfig.parse(settings, "task").build(context)


def batch(*texts: str, length: int = 0) -> WindowBatch:
    rows = [[*PREPROCESSOR.encode(text).tolist(), END] for text in texts]
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), max(length, lengths.max())), dtype=np.int64)
    for row, content in zip(ids, rows, strict=True):
        row[: len(content)] = content
    return WindowBatch(ids, np.zeros_like(ids, dtype=np.uint8), lengths)


def asked(example: Example, words: WordTargets) -> list[tuple[str, str]]:
    """Of each target that is asked for its name, and what the model sees at its places (a mask as _)."""
    ids, names = example.ids.flatten(), words.names
    places, pieces, wanted = (example.targets[name] for name in ("places", "pieces", "ids"))
    shown = [
        "".join("_" if one == MASK else PREPROCESSOR.decode([one]) for one in ids[places[pieces == number]].tolist())
        for number in range(len(wanted))
    ]
    return [(names[target], text) for target, text in zip(wanted.tolist(), shown, strict=True)]


def test_a_hidden_word_shows_a_mask_for_each_of_its_ids() -> None:
    words = targets_of()
    example = objective(words, rate=0.5).example(batch(TEXT, TEXT), derive(1), training=False)
    found = asked(example, words)
    assert len(found) > 8
    for name, shown in found:
        assert shown == "_" * len(PREPROCESSOR.encode(name))
    assert int((example.ids == MASK).sum()) == len(example.targets["places"])
    seen = [PREPROCESSOR.decode(row[row != MASK]) for row in example.ids.numpy()]
    assert seen[0] != seen[1] and all("," in text and "?" in text for text in seen)


def test_a_rare_character_is_hidden_byte_by_byte() -> None:
    words = targets_of()
    for seed in range(40):
        found = dict(asked(objective(words).example(batch(TEXT), derive(seed), training=False), words))
        if "naïve" in found:
            assert found["naïve"] == "_" * 6
            return
    pytest.fail("naïve was never asked for")


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("unit", ["character", "word"])
def test_nothing_of_a_hidden_word_but_its_length_can_be_seen(kind: str, unit: Any) -> None:
    """Also under noise: it falls on what is left, and goes by what it sees."""
    words = targets_of(kind, max_targets=60)
    one = objective(words, NOISE.model_copy(update={"unit": unit}), rate=0.4, mask_share=1.0)
    clean = batch(TEXT, TEXT, TEXT, length=160)
    rare, common = PREPROCESSOR.encode("ï").tolist(), PREPROCESSOR.encode("aeht").tolist()
    for seed in range(20):
        example = one.example(clean, derive(seed), training=True)
        hidden = one.example(clean, derive(seed), training=False).ids.numpy() == MASK
        ids = clean.ids.copy()
        for row, content in zip(hidden, ids, strict=True):
            starts = np.flatnonzero(np.diff(row, prepend=False) & row)
            for start in starts:
                size = int(np.argmin(np.append(row[start:], False)))
                content[start : start + size] = derive(seed, int(start)).choice(common, size)
                if size > 2:
                    content[start : start + 2] = rare
        other = one.example(clean._replace(ids=ids), derive(seed), training=True)
        assert not np.array_equal(ids, clean.ids)
        assert torch.equal(example.ids, other.ids)
        assert torch.equal(example.targets["places"], other.targets["places"])
        if kind == "words":
            assert not torch.equal(example.targets["ids"], other.targets["ids"])


def test_noise_moves_what_is_asked_for_along() -> None:
    words = targets_of()
    one = objective(words, NOISE, rate=0.4, mask_share=0.5)
    clean, masked, spelt, misspelt = batch(TEXT, TEXT, length=160), 0, 0, 0
    for seed in range(60):
        example = one.example(clean, derive(seed), training=True)
        assert len(example.targets["ids"]) == example.targets["pieces"].max() + 1
        for name, shown in asked(example, words):
            if "_" in shown:
                assert shown == "_" * len(PREPROCESSOR.encode(name))
                masked += 1
            elif "ï" not in name:
                # What noise did to this word alone: it keeps most of its letters, and has none of another word's.
                kept = sum(min(shown.lower().count(letter), name.lower().count(letter)) for letter in set(name.lower()))
                assert abs(len(shown) - len(name)) <= len(name) and (kept >= len(name) / 3 or len(name) < 4)
                spelt += shown == name
                misspelt += shown != name
    assert masked > 200 and spelt > 40 and misspelt > 40


def test_a_word_that_noise_pushed_over_the_end_of_its_window_is_not_asked_for() -> None:
    words = targets_of()
    text = "the house over the sea. the dog"
    clean = batch(text, length=len(text) + 1)
    one = objective(words, TrainingNoise(rate=1, kinds=["duplicate"]), rate=0.99, mask_share=0.7)
    for seed in range(50):
        example = one.example(clean, derive(seed), training=True)
        last = int(example.targets["places"].max()) if len(example.targets["places"]) else 0
        for name, shown in asked(example, words):
            assert len(shown) == (len(name) if "_" in shown else 2 * len(name))
        assert last < clean.ids.shape[1] and "dog" not in dict(asked(example, words))


def test_each_piece_of_a_word_is_asked_for_and_bits_count_words() -> None:
    words, width = targets_of("bpe", max_targets=45), 64
    one = objective(words, rate=0.5, width=width)
    example = one.example(batch(TEXT), derive(2), training=False)
    pieces, number = example.targets["words"], int(example.targets["words"].max()) + 1
    assert len(pieces) > number > 3
    sizes = torch.zeros(number, dtype=torch.int64).index_add(0, pieces, torch.bincount(example.targets["pieces"]))
    masks = "".join("_" if one == MASK else " " for one in example.ids[0].tolist())
    assert sizes.tolist() == [len(run) for run in masks.split()]
    features = torch.randn(*example.ids.shape, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss, metrics = one.loss(features, example)
    bits = metrics["bits_per_masked_word"]
    assert bits.number == number and bits.total == pytest.approx(float(loss) * len(pieces) / np.log(2), rel=1e-5)
    # Features that say at each place which piece it is, and a head that knows all but the first one.
    told = torch.zeros(example.ids.numel(), width)
    told[example.targets["places"], example.targets["pieces"]] = 1.0
    with torch.no_grad():
        one.head.weight[example.targets["ids"], torch.arange(len(pieces))] += 99.0
        one.head.weight[example.targets["ids"][0], 0] -= 999.0
    accuracy = one.loss(told.view_as(features), example)[1]["masked_word_accuracy"]
    assert accuracy == (number - 1, number)


def test_short_words_can_be_left_out() -> None:
    words = targets_of()
    one = objective(words, rate=0.9, min_length=5)
    names = {name for seed in range(5) for name, _ in asked(one.example(batch(TEXT), derive(seed), False), words)}
    assert names == {"quick", "brown", "jumps", "doesn't", "Their", "house", "naïve"}


LOSSES: list[dict[str, Any]] = [
    {"kind": "full_softmax"},
    {"kind": "sampled_softmax", "num_draws": 5},
    {"kind": "negative_sampling"},
]


def test_the_figures_of_the_three_losses_are_the_same_function() -> None:
    features = torch.randn(1, len(batch(TEXT).ids[0]), WIDTH, generator=torch.Generator().manual_seed(1))
    figures, losses = [], set()
    for loss in LOSSES:
        one = objective(loss=loss, rate=0.5)
        example = one.example(batch(TEXT), derive(3), training=False)
        with torch.no_grad():
            value, metrics = one.loss(features, example)
            trained, _ = one.loss(features, one.example(batch(TEXT), derive(3), training=True))
        figures.append((float(value), metrics, [part.tolist() for part in example.targets.values()]))
        losses.add(float(trained))
    assert figures[0] == figures[1] == figures[2]
    assert len(losses) == 3


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["kind"])
def test_an_example_depends_on_its_generator_alone(loss: dict[str, Any]) -> None:
    one = objective(loss=loss, noise=NOISE)
    torch.manual_seed(1)
    first = one.example(batch(TEXT), derive(4), training=True)
    torch.manual_seed(2)
    again = one.eval().example(batch(TEXT), derive(4), training=True)
    assert first.targets.keys() == again.targets.keys() and torch.equal(first.ids, again.ids)
    assert all(torch.equal(part, again.targets[name]) for name, part in first.targets.items())
    assert ("drawn" in first.targets) == (loss["kind"] != "full_softmax")


def test_a_head_begins_with_the_frequencies_of_the_targets() -> None:
    words = targets_of()
    one = objective(words)
    assert words.counts is not None
    shares = torch.from_numpy((words.counts + 1) / (words.counts + 1).sum()).float()
    torch.testing.assert_close(torch.softmax(one.head.bias, 0), shares)


def test_a_saved_head_is_the_same_head(tmp_path: Path) -> None:
    one, other = objective(loss=LOSSES[1]), objective(loss=LOSSES[1])
    with torch.no_grad():
        one.head.weight.mul_(2)
    one.save(tmp_path)
    saved = load_file(tmp_path / "head.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {
        "head.weight": (targets_of().num_targets, WIDTH),
        "head.bias": (targets_of().num_targets,),
    }
    other.load_state_dict(saved)
    example = one.example(batch(TEXT), derive(5), training=False)
    features = torch.ones(*example.ids.shape, WIDTH)
    assert one.loss(features, example)[1] == other.loss(features, example)[1]


def test_what_has_no_targets_is_refused() -> None:
    uncounted = WordTargets.fit([TEXT], TargetsConfig(min_count=1), PREPROCESSOR)
    nothing = WordTargets.fit([TEXT], TargetsConfig(min_count=9), PREPROCESSOR).counted([TEXT])
    for words, message in (
        (None, r"needs a vocabulary with word targets; this one has none\. Set `vocabulary\.words` in params\.yaml"),
        (uncounted, r"they were not counted\. Run `cclm run --target vocab`"),
        (nothing, r"no word of the train split occurs 9 times\. Lower `vocabulary\.words\.min_count`"),
    ):
        with pytest.raises(ConfigError, match=message):
            MaskedWordsConfig().build(ObjectiveContext(width=WIDTH, preprocessor=PREPROCESSOR, words=words))


def test_unknown_settings_of_a_loss_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"task: loss\.num_draw is not a known key; did you mean 'num_draws'\?"):
        MaskedWordsConfig.parse({"loss": {"kind": "sampled_softmax", "num_draw": 3}}, "task")
    with pytest.raises(ConfigError, match="sampled_softmx"):
        MaskedWordsConfig.parse({"loss": {"kind": "sampled_softmx"}}, "task")


def test_the_measured_rate_is_the_rate_asked_for_and_no_row_is_wasted() -> None:
    rows = np.repeat(np.arange(400), 50)
    chosen = choose_words(rows, 0.15, derive(6))
    assert chosen.mean() == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / len(rows)))
    rows = np.repeat(np.arange(1000), 3)
    rows = rows[rows % 7 > 0]
    chosen = choose_words(rows, 0.05, derive(7))
    assert set(rows[chosen]) == set(rows)
    assert np.bincount(np.arange(len(rows))[chosen] % 3) / chosen.sum() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert not choose_words(np.zeros(0, dtype=np.int64), 0.5, derive(8)).size


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def test_what_is_learnt_says_more_than_the_length_of_a_word(tmp_path: Path) -> None:
    """Animals have three letters and what they do has four: which animal it was is told by what it does."""
    pairs = ("cat mews", "dog woof", "cow moos", "hen lays", "pig dirt", "bee buzz")
    chosen = derive(1).choice(pairs, size=400)
    said = [
        Record(str(number), f"{pair}.", split="train" if number % 4 else "test") for number, pair in enumerate(chosen)
    ]
    corpus = encode(tmp_path / "encoded", said, TargetsConfig(min_count=1))
    with seeded_initialisation(4):
        embedder = Embedder(corpus.preprocessor, SHAPE)
        context = ObjectiveContext(
            width=embedder.width, preprocessor=corpus.preprocessor, words=read_targets(corpus.folder)
        )
        one = MaskedWordsConfig().build(context)
    windows, test = Windows(corpus.split("train"), 60), Windows(corpus.split("test"), 60).fixed(16, seed=1)
    example = one.example(test, derive(9, "held out"), training=False)
    wanted, lengths = example.targets["ids"].numpy(), torch.bincount(example.targets["pieces"]).numpy()
    unigram = entropy(np.bincount(wanted))
    given_length = sum((lengths == size).mean() * entropy(np.bincount(wanted[lengths == size])) for size in (3, 4))
    assert 2 < given_length < unigram - 0.9
    assert held_out(embedder, one, test) > given_length
    fit(embedder, one, [windows.batch(step, 8, seed=1) for step in range(100)], fresh=True)
    assert held_out(embedder, one, test) < 0.5 * given_length
