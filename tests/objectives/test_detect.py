"""Detection: which characters are marked, its metrics, and that a model learns more than the share of errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cclm_core.corpus.windows import WindowBatch, Windows
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.detect import DetectConfig, errors
from cclm_core.objectives.noising import NoisedBatch
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, Preprocessor
from tests.corpora import encode, records
from tests.training.trainings import SHAPE, encoder_for

PREPROCESSOR = Preprocessor(alphabet="abcdefghijklmnopqrstuvwxyz .")


def ids_of(text: str) -> np.ndarray:
    """(1, L), with END for |."""
    return np.array([[END if c == "|" else PREPROCESSOR.encode(c)[0] for c in text]], dtype=np.int64)


def marked(clean: str, noisy: str, source: list[int]) -> str:
    """The noisy text with ^ at errors; | is the end of a document, `source` the origin of each noisy character."""
    length = max(len(clean), len(noisy)) + 1
    padded = [np.pad(ids_of(text), ((0, 0), (0, length - len(text)))) for text in (clean, noisy)]
    sources = np.array([source + [-1] * (length - len(noisy))])
    wrong = errors(padded[0], NoisedBatch(padded[1], sources, np.zeros((1, length), np.uint8)))[0]
    assert not wrong[len(noisy) :].any()
    return "".join("^" if mark else " " for mark in wrong[: len(noisy)])


@pytest.mark.parametrize(
    ("clean", "noisy", "source", "expected"),
    [
        ("the cat", "the cat", [0, 1, 2, 3, 4, 5, 6], "       "),
        ("the cat", "hte cat", [1, 0, 2, 3, 4, 5, 6], "^^     "),  # swapped
        ("the cat", "the czt", [0, 1, 2, 3, 4, -1, 6], "     ^ "),  # replaced
        ("the cat", "the ct", [0, 1, 2, 3, 4, 6], "     ^"),  # missing: marked at the next character
        ("the cat", "he cat", [1, 2, 3, 4, 5, 6], "^     "),  # missing at the start of the window
        ("the cat", "the ca", [0, 1, 2, 3, 4, 5], "      "),  # missing at its end: nobody can know
        ("the|cat", "th|cat", [0, 1, 3, 4, 5, 6], "  ^   "),  # missing at the end of a document
        ("the cat", "the cxat", [0, 1, 2, 3, 4, -1, 5, 6], "     ^  "),  # superfluous
        ("occur", "occcur", [0, 1, -1, 2, 3, 4], "   ^  "),  # the last of equal letters
        ("occur", "ocur", [0, 2, 3, 4], "  ^ "),
    ],
)
def test_errors_are_marked_where_a_reader_sees_them(clean: str, noisy: str, source: list[int], expected: str) -> None:
    assert marked(clean, noisy, source) == expected


def test_metrics_of_known_predictions() -> None:
    context = ObjectiveContext(width=1, preprocessor=PREPROCESSOR)
    objective = DetectConfig(noise=NoiseRecipe(rate=0.3, kinds=["drop"])).build(context)
    ids = PREPROCESSOR.encode("the cat sat on the mat. " * 8).astype(np.int64)[None]
    batch = WindowBatch(ids, np.zeros(ids.shape, np.uint8), np.array([ids.shape[1]]))
    example = objective.example(batch, derive(1), training=False)
    with torch.no_grad():
        objective.head.weight.fill_(1.0), objective.head.bias.zero_()
    labels = torch.zeros(example.ids.numel())
    labels[example.targets["positions"]] = example.targets["labels"].float()
    share = float(example.targets["labels"].float().mean())
    assert 0.1 < share < 0.3
    perfect = objective.loss((40 * (labels - 0.5)).view(1, -1, 1), example)
    means = {name: sums.total / sums.number for name, sums in perfect[1].items() if sums.number}
    assert means["detection_f1"] == means["detection_accuracy"] == means["errors_detected"] == 1
    assert means["error_share"] == pytest.approx(share) and means["bits_per_detection"] < 1e-6
    never = objective.loss(torch.full((1, labels.numel(), 1), -1.0), example)[1]
    assert never["detection_f1"].total == 0 and never["detections_right"].number == 0
    assert never["detection_accuracy"].total / never["detection_accuracy"].number == pytest.approx(1 - share)


def test_training_noise_is_ignored_and_held_out_text_has_errors(tmp_path: Path) -> None:
    """A trained model finds most errors in new sentences; a guess at the share of errors has an F1 of that share."""
    corpus = encode(tmp_path / "encoded", records(120))
    context = ObjectiveContext(width=SHAPE.encoder.width, preprocessor=corpus.preprocessor)
    with seeded_initialization(3):
        objective = DetectConfig(noise=NoiseRecipe(rate=0.1, kinds=["keyboard", "insert"])).build(context)
        encoder = encoder_for(corpus.preprocessor, objective)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=4e-3)
    windows = Windows(corpus.split("train"), 64)
    for step in range(80):
        example = objective.example(windows.batch(step, 8, 1), derive(1, step), training=True)
        loss, _ = objective.loss(encoder(example.ids), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = objective.example(Windows(corpus.split("test"), 64).fixed(16, 1), derive(2), training=False)
    with torch.no_grad():
        metrics = objective.loss(encoder.eval()(test.ids), test)[1]
    means = {name: sums.total / sums.number for name, sums in metrics.items()}
    assert 0.05 < means["error_share"] < 0.2
    assert means["detection_accuracy"] > 1 - means["error_share"] / 2 and means["detection_f1"] > 0.7
