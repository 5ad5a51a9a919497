"""Whole texts: spans of one document that do not overlap, noise on one side, the contrastive loss, learning."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Record
from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.contrastive import contrast
from cclm_core.objectives.whole_texts import WholeTexts, WholeTextsConfig
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, Preprocessor
from tests.corpora import encode
from tests.training.trainings import SHAPE, encoder_for

PREPROCESSOR = Preprocessor(alphabet="abcdefghijklmnopqrstuvwxyz .")
CLEAN = NoiseRecipe(rate=0)


def objective(preprocessor: Preprocessor = PREPROCESSOR, **values: Any) -> WholeTexts:
    context = ObjectiveContext(width=SHAPE.encoder.width, preprocessor=preprocessor)
    with seeded_initialization(1):
        return WholeTextsConfig(**{"noise": CLEAN, "min_characters": 4, **values}).build(context)


def batch(*rows: str) -> WindowBatch:
    """Rows of documents; | is the end of a document."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, text in zip(ids, rows, strict=True):
        row[: len(text)] = [END if c == "|" else PREPROCESSOR.encode(c)[0] for c in text]
    return WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array(list(map(len, rows))))


def pairs(head: WholeTexts, windows: WindowBatch, seed: int = 1) -> list[set[str]]:
    ids = head.example(windows, derive(seed), training=True).ids
    texts = [PREPROCESSOR.decode(row[row > 0].tolist()) for row in ids]
    return [{texts[k].strip(), texts[k + len(texts) // 2].strip()} for k in range(len(texts) // 2)]


def test_two_spans_of_a_document_do_not_overlap_and_are_cut_between_words() -> None:
    windows = batch("of a cat|one two three four.|no", "five sixsix seven eight", "a|b|c|d|e|f|g|h|i|j")
    assert pairs(objective(min_characters=5), windows) == [
        {"one two", "three four."},
        {"five sixsix", "seven eight"},
    ]


def test_a_batch_has_at_most_one_pair_per_window_and_every_document_is_used_at_times() -> None:
    windows = batch("aaaa bbbb|cccc dddd|eeee ffff|gggg hhhh", "iiii jjjj|kkkk llll|mmmm nnnn|oooo pppp")
    drawn = [pairs(objective(), windows, seed) for seed in range(20)]
    assert {len(part) for part in drawn} == {2}
    assert len({frozenset(pair) for part in drawn for pair in part}) == 8


def test_a_single_pair_is_not_compared() -> None:
    head = objective()
    example = head.example(batch("one two three four"), derive(1), training=True)
    assert example.ids.shape == (0, 0)
    loss, metrics = head.loss(torch.zeros(0, 0, SHAPE.encoder.width, requires_grad=True), example)
    assert loss.item() == 0 and loss.requires_grad and metrics["pair_accuracy"].number == 0


def test_noise_is_on_one_side_only_and_the_side_is_random() -> None:
    clean = "the quick brown fox jumps over the lazy dog again. "
    windows = batch(*[clean] * 16)
    for kind, length in (("copies", len(clean)), ("spans", len(clean) // 2)):
        head = objective(pairs=kind, noise=NoiseRecipe(rate=0.3))
        ids = head.example(windows, derive(1), training=False).ids
        texts = [PREPROCESSOR.decode(row[row > 0].tolist()) for row in ids]
        assert ids.shape == (32, 64 if kind == "copies" else 32)
        half = len(texts) // 2
        assert all(text in clean for text in texts[:half]) and not any(text in clean for text in texts[half:])
        assert all(abs(len(text) - length) < 8 for text in texts)
    starts = {text[:3] for text in texts[:16]}
    assert len(starts) == 2, "the clean side must be the first span in some pairs and the second in others"


def test_the_loss_is_info_nce_in_both_directions() -> None:
    torch.manual_seed(1)
    first, second = (nn.functional.normalize(torch.randn(5, 8, dtype=torch.double), dim=-1) for _ in range(2))
    losses, _ = contrast(first, second, temperature=0.1)
    similarity = (first @ second.T / 0.1).exp()
    expected = -(similarity.diag() / similarity.sum(1)).log() / 2 - (similarity.diag() / similarity.sum(0)).log() / 2
    torch.testing.assert_close(losses, expected)
    same = contrast(first[:1].expand(5, 8), first[:1].expand(5, 8), temperature=0.1)
    torch.testing.assert_close(same.losses, torch.full((5,), math.log(5), dtype=torch.double))
    assert contrast(first, first, temperature=0.1).num_correct == 10


def test_hard_negatives_count_and_excluded_pairs_do_not() -> None:
    vectors = torch.eye(4, dtype=torch.double)
    alone = contrast(vectors[:2], vectors[:2], temperature=1.0).losses
    with_negatives = contrast(vectors[:2], torch.cat([vectors[:2], vectors[:1]]), temperature=1.0).losses
    assert with_negatives[0] > alone[0] and with_negatives[1] > alone[1]
    excluded = torch.tensor([[False, False, True], [False, False, True]])
    torch.testing.assert_close(
        contrast(vectors[:2], torch.cat([vectors[:2], vectors[:1]]), 1.0, excluded).losses, alone
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    """Documents on one of eight subjects: their words are theirs alone, and no word is in both halves."""
    generator, folder = np.random.default_rng(2), tmp_path_factory.mktemp("corpus") / "encoded"
    subjects = ["salt cod net", "oak elm ash", "king lord duke", "red blue pink", "bread corn rye", "sun moon sky",
                "lute drum harp", "ship oar mast"]  # fmt: skip
    made = []
    for split, number in (("train", 400), ("validation", 20), ("test", 64)):
        for k in range(number):
            words = subjects[k % 8].split()
            text = " ".join(words[generator.integers(3)] for _ in range(9))
            made.append(Record(f"{split}/{k}", text, None, f"{split}-{k}", None, None, (), split))
    return encode(folder, made)


def test_two_halves_of_new_documents_are_matched(corpus: EncodedCorpus) -> None:
    """Eight subjects: whoever knows them matches a text with its partner or one of the same subject, about 1 in 2."""
    head = objective(corpus.preprocessor, min_characters=8)
    with seeded_initialization(1):
        encoder = encoder_for(corpus.preprocessor, head)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=4e-3)
    windows = Windows(corpus.split("train"), 64)
    for step in range(60):
        example = head.example(windows.batch(step, 12, 1), derive(1, step), training=True)
        loss, _ = head.loss(encoder(example.ids), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = head.example(Windows(corpus.split("test"), 64).fixed(16, 1), derive(2), training=False)
    with torch.no_grad():
        metrics = head.loss(encoder.eval()(test.ids), test)[1]
    means = {name: sums.total / sums.number for name, sums in metrics.items()}
    assert means["bits_of_chance"] > 3
    assert means["bits_per_pair"] < 0.65 * means["bits_of_chance"] and means["pair_accuracy"] > 0.25
