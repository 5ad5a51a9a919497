"""Masked words: whole words are masked, only their length is visible, and metrics are comparable between losses."""

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
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, MASK, Preprocessor, TargetsConfig
from cclm_core.text.word_targets import WordTargets, read_targets
from tests.corpora import encode
from tests.objectives.test_contract import SHAPE, fit, held_out

TEXT = "The quick brown fox jumps over the lazy dog, doesn't it? Their house is near the naïve sea."
PREPROCESSOR = Preprocessor(alphabet="".join(sorted(set(TEXT) - {"ï"})))
NOISE = TrainingNoise(rate=0.3, kinds=list(CATALOGUE))
MISSPELLINGS = {"their": {"thier": 1}, "house": {"hause": 1, "hoouse": 1}}
WIDTH = 24


def targets_of(kind: Any = "words", **settings: Any) -> WordTargets:
    config = TargetsConfig(kind=kind, min_count=1, **settings)
    return WordTargets.fit([TEXT], config, PREPROCESSOR).with_counts([TEXT])


def objective(
    words: WordTargets | None = None, noise: TrainingNoise | None = None, width: int = WIDTH, **settings: Any
) -> MaskedWords:
    with seeded_initialization(1):
        context = ObjectiveContext(
            width=width,
            preprocessor=PREPROCESSOR,
            noise=noise or NO_NOISE,
            misspellings=MISSPELLINGS,
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


def predicted(example: Example, words: WordTargets) -> list[tuple[str, str]]:
    """The name of each target to predict, and the input at its positions (masks as _)."""
    ids, names = example.ids.flatten(), words.names
    positions, pieces, targets = (example.targets[name] for name in ("positions", "pieces", "ids"))
    inputs = [
        "".join("_" if id_ == MASK else PREPROCESSOR.decode([id_]) for id_ in ids[positions[pieces == index]].tolist())
        for index in range(len(targets))
    ]
    return [(names[target], text) for target, text in zip(targets.tolist(), inputs, strict=True)]


def test_a_masked_word_has_one_mask_per_id() -> None:
    words = targets_of()
    example = objective(words, rate=0.5).example(batch(TEXT, TEXT), derive(1), training=False)
    pairs = predicted(example, words)
    assert len(pairs) > 8
    for name, shown in pairs:
        assert shown == "_" * len(PREPROCESSOR.encode(name))
    assert int((example.ids == MASK).sum()) == len(example.targets["positions"])
    visible = [PREPROCESSOR.decode(row[row != MASK]) for row in example.ids.numpy()]
    assert visible[0] != visible[1] and all("," in text and "?" in text for text in visible)


def test_a_rare_character_is_masked_byte_by_byte() -> None:
    words = targets_of()
    for seed in range(40):
        pairs = dict(predicted(objective(words).example(batch(TEXT), derive(seed), training=False), words))
        if "naïve" in pairs:
            assert pairs["naïve"] == "_" * 6
            return
    pytest.fail("naïve was never selected")


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("unit", ["character", "word"])
def test_a_masked_word_reveals_only_its_length(kind: str, unit: Any) -> None:
    """Also with noise, which is applied to the masked text."""
    words = targets_of(kind, max_targets=60)
    task = objective(words, NOISE.model_copy(update={"unit": unit}), rate=0.4, mask_share=1.0)
    clean = batch(TEXT, TEXT, TEXT, length=160)
    rare, common = PREPROCESSOR.encode("ï").tolist(), PREPROCESSOR.encode("aeht").tolist()
    for seed in range(20):
        example = task.example(clean, derive(seed), training=True)
        masked = task.example(clean, derive(seed), training=False).ids.numpy() == MASK
        ids = clean.ids.copy()
        for row, content in zip(masked, ids, strict=True):
            starts = np.flatnonzero(np.diff(row, prepend=False) & row)
            for start in starts:
                size = int(np.argmin(np.append(row[start:], False)))
                content[start : start + size] = derive(seed, int(start)).choice(common, size)
                if size > 2:
                    content[start : start + 2] = rare
        other = task.example(clean._replace(ids=ids), derive(seed), training=True)
        assert not np.array_equal(ids, clean.ids)
        assert torch.equal(example.ids, other.ids)
        assert torch.equal(example.targets["positions"], other.targets["positions"])
        if kind == "words":
            assert not torch.equal(example.targets["ids"], other.targets["ids"])


def test_targets_move_with_noise() -> None:
    words = targets_of()
    task = objective(words, NOISE, rate=0.4, mask_share=0.5)
    clean, masked, correct, misspelled = batch(TEXT, TEXT, length=160), 0, 0, 0
    for seed in range(60):
        example = task.example(clean, derive(seed), training=True)
        assert len(example.targets["ids"]) == example.targets["pieces"].max() + 1
        for name, shown in predicted(example, words):
            if "_" in shown:
                assert shown == "_" * len(PREPROCESSOR.encode(name))
                masked += 1
            elif "ï" not in name:
                # The noisy word keeps most of its letters, and none of another word.
                common = sum(min(shown.lower().count(c), name.lower().count(c)) for c in set(name.lower()))
                assert abs(len(shown) - len(name)) <= len(name) and (common >= len(name) / 3 or len(name) < 4)
                correct += shown == name
                misspelled += shown != name
    assert masked > 200 and correct > 40 and misspelled > 40


def test_a_word_that_noise_pushes_out_of_its_window_is_not_a_target() -> None:
    words = targets_of()
    text = "the house over the sea. the dog"
    clean = batch(text, length=len(text) + 1)
    task = objective(words, TrainingNoise(rate=1, kinds=["duplicate"]), rate=0.99, mask_share=0.7)
    for seed in range(50):
        example = task.example(clean, derive(seed), training=True)
        last = int(example.targets["positions"].max()) if len(example.targets["positions"]) else 0
        for name, shown in predicted(example, words):
            assert len(shown) == (len(name) if "_" in shown else 2 * len(name))
        assert last < clean.ids.shape[1] and "dog" not in dict(predicted(example, words))


def test_every_piece_of_a_word_is_predicted_and_bits_are_per_word() -> None:
    words, width = targets_of("bpe", max_targets=45), 64
    task = objective(words, rate=0.5, width=width)
    example = task.example(batch(TEXT), derive(2), training=False)
    pieces, num_words = example.targets["words"], int(example.targets["words"].max()) + 1
    assert len(pieces) > num_words > 3
    sizes = torch.zeros(num_words, dtype=torch.int64).index_add(0, pieces, torch.bincount(example.targets["pieces"]))
    masks = "".join("_" if id_ == MASK else " " for id_ in example.ids[0].tolist())
    assert sizes.tolist() == [len(run) for run in masks.split()]
    features = torch.randn(*example.ids.shape, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss, metrics = task.loss(features, example)
    bits = metrics["bits_per_masked_word"]
    assert bits.number == num_words and bits.total == pytest.approx(float(loss) * len(pieces) / np.log(2), rel=1e-5)
    # One-hot features of the piece at each position, and a head that predicts all pieces but the first one.
    one_hot = torch.zeros(example.ids.numel(), width)
    one_hot[example.targets["positions"], example.targets["pieces"]] = 1.0
    with torch.no_grad():
        task.head.weight[example.targets["ids"], torch.arange(len(pieces))] += 99.0
        task.head.weight[example.targets["ids"][0], 0] -= 999.0
    accuracy = task.loss(one_hot.view_as(features), example)[1]["masked_word_accuracy"]
    assert accuracy == (num_words - 1, num_words)


def test_short_words_can_be_excluded() -> None:
    words = targets_of()
    task = objective(words, rate=0.9, min_length=5)
    names = {name for seed in range(5) for name, _ in predicted(task.example(batch(TEXT), derive(seed), False), words)}
    assert names == {"quick", "brown", "jumps", "doesn't", "Their", "house", "naïve"}


LOSSES: list[dict[str, Any]] = [
    {"kind": "full_softmax"},
    {"kind": "sampled_softmax", "num_draws": 5},
    {"kind": "negative_sampling"},
]


def test_the_held_out_metrics_of_all_losses_are_equal() -> None:
    features = torch.randn(1, len(batch(TEXT).ids[0]), WIDTH, generator=torch.Generator().manual_seed(1))
    held_out_results, training_losses = [], set()
    for loss in LOSSES:
        task = objective(loss=loss, rate=0.5)
        example = task.example(batch(TEXT), derive(3), training=False)
        with torch.no_grad():
            value, metrics = task.loss(features, example)
            training_loss, _ = task.loss(features, task.example(batch(TEXT), derive(3), training=True))
        held_out_results.append((float(value), metrics, [tensor.tolist() for tensor in example.targets.values()]))
        training_losses.add(float(training_loss))
    assert held_out_results[0] == held_out_results[1] == held_out_results[2]
    assert len(training_losses) == 3


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["kind"])
def test_an_example_depends_only_on_its_generator(loss: dict[str, Any]) -> None:
    task = objective(loss=loss, noise=NOISE)
    torch.manual_seed(1)
    first = task.example(batch(TEXT), derive(4), training=True)
    torch.manual_seed(2)
    again = task.eval().example(batch(TEXT), derive(4), training=True)
    assert first.targets.keys() == again.targets.keys() and torch.equal(first.ids, again.ids)
    assert all(torch.equal(tensor, again.targets[name]) for name, tensor in first.targets.items())
    assert ("drawn" in first.targets) == (loss["kind"] != "full_softmax")


def test_a_new_head_predicts_the_frequencies_of_the_targets() -> None:
    words = targets_of()
    task = objective(words)
    assert words.counts is not None
    shares = torch.from_numpy((words.counts + 1) / (words.counts + 1).sum()).float()
    torch.testing.assert_close(torch.softmax(task.head.bias, 0), shares)


def test_a_head_can_be_saved_and_loaded(tmp_path: Path) -> None:
    task, other = objective(loss=LOSSES[1]), objective(loss=LOSSES[1])
    with torch.no_grad():
        task.head.weight.mul_(2)
    task.save(tmp_path)
    saved = load_file(tmp_path / "head.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {
        "head.weight": (targets_of().num_targets, WIDTH),
        "head.bias": (targets_of().num_targets,),
    }
    other.load_state_dict(saved)
    example = task.example(batch(TEXT), derive(5), training=False)
    features = torch.ones(*example.ids.shape, WIDTH)
    assert task.loss(features, example)[1] == other.loss(features, example)[1]


def test_missing_word_targets_are_refused() -> None:
    uncounted = WordTargets.fit([TEXT], TargetsConfig(min_count=1), PREPROCESSOR)
    empty = WordTargets.fit([TEXT], TargetsConfig(min_count=9), PREPROCESSOR).with_counts([TEXT])
    for words, message in (
        (
            None,
            r"needs a vocabulary with word targets, but this one has none\. Set `vocabulary\.words` in params\.yaml",
        ),
        (uncounted, r"they were not counted\. Run `cclm run --target vocab`"),
        (empty, r"no word of the train split occurs 9 times\. Lower `vocabulary\.words\.min_count`"),
    ):
        with pytest.raises(ConfigError, match=message):
            MaskedWordsConfig().build(ObjectiveContext(width=WIDTH, preprocessor=PREPROCESSOR, words=words))


def test_unknown_settings_of_a_loss_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task: loss\.num_draw is not a known key; did you mean 'num_draws'\?"):
        MaskedWordsConfig.parse({"loss": {"kind": "sampled_softmax", "num_draw": 3}}, "task")
    with pytest.raises(ConfigError, match="sampled_softmx"):
        MaskedWordsConfig.parse({"loss": {"kind": "sampled_softmx"}}, "task")


def test_the_share_of_selected_words_equals_the_rate_and_every_row_has_one() -> None:
    rows = np.repeat(np.arange(400), 50)
    selected = choose_words(rows, 0.15, derive(6))
    assert selected.mean() == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / len(rows)))
    rows = np.repeat(np.arange(1000), 3)
    rows = rows[rows % 7 > 0]
    selected = choose_words(rows, 0.05, derive(7))
    assert set(rows[selected]) == set(rows)
    assert np.bincount(np.arange(len(rows))[selected] % 3) / selected.sum() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert not choose_words(np.zeros(0, dtype=np.int64), 0.5, derive(8)).size


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def test_it_learns_more_than_the_lengths_of_words(tmp_path: Path) -> None:
    """Nouns have three letters and the words after them four, so lengths alone do not identify a word."""
    pairs = ("cat mews", "dog woof", "cow moos", "hen lays", "pig dirt", "bee buzz")
    texts = derive(1).choice(pairs, size=400)
    records = [
        Record(str(index), f"{text}.", split="train" if index % 4 else "test") for index, text in enumerate(texts)
    ]
    corpus = encode(tmp_path / "encoded", records, TargetsConfig(min_count=1))
    with seeded_initialization(4):
        embedder = Embedder(corpus.preprocessor, SHAPE)
        context = ObjectiveContext(
            width=embedder.width, preprocessor=corpus.preprocessor, words=read_targets(corpus.folder)
        )
        task = MaskedWordsConfig().build(context)
    windows, test = Windows(corpus.split("train"), 60), Windows(corpus.split("test"), 60).fixed(16, seed=1)
    example = task.example(test, derive(9, "held out"), training=False)
    ids, lengths = example.targets["ids"].numpy(), torch.bincount(example.targets["pieces"]).numpy()
    unigram = entropy(np.bincount(ids))
    given_length = sum((lengths == size).mean() * entropy(np.bincount(ids[lengths == size])) for size in (3, 4))
    assert 2 < given_length < unigram - 0.9
    assert held_out(embedder, task, test) > given_length
    fit(embedder, task, [windows.batch(step, 8, seed=1) for step in range(100)], fresh=True)
    assert held_out(embedder, task, test) < 0.5 * given_length
