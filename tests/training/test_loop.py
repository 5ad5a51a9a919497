"""Training: the same bits whether it was interrupted or not, and a stop that says why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cclm_core.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.config import EmbeddingConfig, HourglassConfig
from cclm_core.errors import TrainingError
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Surroundings
from cclm_core.objectives.catalogue import ObjectiveConfig, build
from cclm_core.objectives.entities import EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.random import seeded_initialisation
from cclm_core.reporting import Report, silent
from cclm_core.text.encoded import EncodedCorpus
from cclm_core.text.windows import Windows
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.loop import Point, Trainee, evaluate, train
from tests.corpora import encode, records

SHAPE = EmbedderConfig(
    embedding=EmbeddingConfig(width=32, ngram_buckets=256),
    encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48),
)
CONFIG = TrainingConfig(
    steps=24, batch_size=4, window=48, warmup_steps=4, evaluate_every=5, evaluation_windows=4, checkpoint_every=4
)


def trainee(corpus: EncodedCorpus, *configs: ObjectiveConfig) -> Trainee:
    with seeded_initialisation(1):
        embedder = Embedder(corpus.preprocessor, SHAPE)
        surroundings = Surroundings(embedder.width, corpus.preprocessor, tuple(corpus.entity_labels))
        return Trainee(embedder, [(build(config, TrainingNoise(), surroundings), 1.0) for config in configs])


def run(
    encoded: Path, checkpoints: Path, report: Report = silent, workers: int = 1, **changes: object
) -> tuple[Trainee, list[Point]]:
    corpus = EncodedCorpus.open(encoded)
    config = CONFIG.model_copy(update=changes)
    student = trainee(corpus, MaskedCharactersConfig(), EntitiesConfig())
    data = Data(*(Windows(corpus.split(split), config.window) for split in ("train", "validation")))
    return student, train(student, data, config, 7, Checkpoints(checkpoints, "identity" * 2), report, workers)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainee, list[Point]]:
    return run(encoded, tmp_path_factory.mktemp("checkpoints") / "whole")


def same(one: Trainee, other: Trainee) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_it_learns(uninterrupted: tuple[Trainee, list[Point]]) -> None:
    curve = uninterrupted[1]
    assert [point["step"] for point in curve] == [0, 5, 10, 15, 20, 24]
    for name in ("held_out_bits_per_masked_character", "held_out_bits_per_tag"):
        assert curve[-1][name] < 0.8 * curve[0][name]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_threads_that_make_batches_changes_no_bit(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[Trainee, list[Point]], workers: int
) -> None:
    student, curve = run(encoded, tmp_path / "other", workers=workers)
    assert curve == uninterrupted[1]
    assert same(student, uninterrupted[0])


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.training.test_loop import run
def report(step, values, total=None):
    if step: print(step, flush=True)
run(Path(sys.argv[1]), Path(sys.argv[2]), report)
"""


def killed(encoded: Path, checkpoints: Path) -> None:
    """Trains in another process and kills it, with SIGKILL, once it has passed two more checkpoints."""
    already = len(list(checkpoints.rglob("step-*")))
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(encoded), str(checkpoints)], cwd=root, stdout=subprocess.PIPE
    )
    newest = max((path.name for path in checkpoints.rglob("step-*")), default="")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        names = sorted(path.name for path in checkpoints.rglob("step-*.safetensors"))
        if names and names[-1] > newest and (already or len(names) >= 2):
            break
        time.sleep(0.001)
    assert child.poll() is None, "the training must be killed before its end"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_three_sigkills_in_a_row_change_no_bit(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[Trainee, list[Point]]
) -> None:
    checkpoints = tmp_path / "interrupted"
    for _ in range(3):
        killed(encoded, checkpoints)
    resumed_at = max(int(path.name.split("-")[1]) for path in checkpoints.rglob("step-*.safetensors"))
    assert resumed_at >= 12
    student, curve = run(encoded, checkpoints)
    assert curve == uninterrupted[1]
    assert same(student, uninterrupted[0])


def test_a_sigterm_saves_the_step_and_ends(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[Trainee, list[Point]]
) -> None:
    checkpoints, root = tmp_path / "asked", str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(encoded), str(checkpoints)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "5\n"  # the first evaluation: steps 6 and later are under way
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=120) == 128 + signal.SIGTERM
    saved = max(int(path.name.split("-")[1]) for path in checkpoints.rglob("step-*.safetensors"))
    assert saved >= 5
    student, curve = run(encoded, checkpoints)
    assert curve == uninterrupted[1]
    assert same(student, uninterrupted[0])


def test_gradients_of_several_batches_make_one_step(encoded: Path, tmp_path: Path) -> None:
    student, curve = run(encoded, tmp_path / "four", batch_size=1, accumulate=4)
    alone, single = run(encoded, tmp_path / "one", batch_size=1)
    assert [point["step"] for point in curve] == [point["step"] for point in single]
    assert not same(student, alone)
    assert curve[-1]["held_out_bits_per_masked_character"] < 0.8 * curve[0]["held_out_bits_per_masked_character"]
    resumed, again = run(encoded, tmp_path / "four", batch_size=1, accumulate=4)  # from its last checkpoint
    assert again == curve
    assert same(resumed, student)


def test_the_best_weights_can_be_kept(encoded: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 0.05, "gradient_clip": 100.0, "steps": 40, "keep": "best"}  # overshoots, and gets worse
    corpus = EncodedCorpus.open(encoded)
    student, curve = run(encoded, tmp_path / "best", **changes)
    names = ("held_out_bits_per_masked_character", "held_out_bits_per_tag")
    judged = {point["step"]: sum(point[name] for name in names) for point in curve[1:]}
    best = min(judged, key=lambda step: (judged[step], step))
    assert curve[-1]["step"] == best
    held_out = Windows(corpus.split("validation"), CONFIG.window).fixed(CONFIG.evaluation_windows, 7)
    again = evaluate(student, held_out, CONFIG, 7)
    assert {name: again[name] for name in names} == {name: curve[-1][name] for name in names}
    resumed, same_curve = run(encoded, tmp_path / "best", **changes)
    assert same_curve == curve
    assert same(resumed, student)


def test_training_stops_when_it_gets_no_better(encoded: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 1e-9, "steps": 400, "evaluate_every": 2, "patience": 3, "precision": "fp32"}
    _, curve = run(encoded, tmp_path / "patient", **changes)
    assert curve[-1]["step"] < 100
    _, again = run(encoded, tmp_path / "patient", **changes)
    assert again == curve


def test_a_damaged_checkpoint_is_passed_over(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[Trainee, list[Point]]
) -> None:
    checkpoints = tmp_path / "damaged"
    run(encoded, checkpoints)
    newest = max(checkpoints.rglob("step-*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    student, curve = run(encoded, checkpoints)
    assert curve == uninterrupted[1]
    assert same(student, uninterrupted[0])


def test_the_seed_and_the_configuration_matter(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[Trainee, list[Point]]
) -> None:
    student, _ = run(encoded, tmp_path / "other", learning_rate=1e-4)
    assert not same(student, uninterrupted[0])


def test_a_loss_that_is_not_finite_stops_and_says_where(encoded: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"must be finite, but it is .* at step \d+ \(batch \d+\); lower training"):
        run(encoded, tmp_path / "hot", learning_rate=1e12, precision="fp32", gradient_clip=1e12, warmup_steps=0)


def test_no_steps_publish_the_initial_weights(encoded: Path, tmp_path: Path) -> None:
    student, curve = run(encoded, tmp_path / "none", steps=0)
    assert [point["step"] for point in curve] == [0]
    corpus = EncodedCorpus.open(encoded)
    assert same(student, trainee(corpus, MaskedCharactersConfig(), EntitiesConfig()))


def test_checkpoints_of_another_identity_are_not_resumed_and_two_are_kept(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "c", "a" * 16)
    for step in (1, 2, 3):
        first.save(Checkpoint(step, {"x": torch.full((2,), float(step))}, {"curve": []}))
    assert len(list((tmp_path / "c").rglob("*.safetensors"))) == 2
    newest = first.newest()
    assert newest is not None and newest.step == 3 and newest.tensors["x"].tolist() == [3.0, 3.0]
    second = Checkpoints(tmp_path / "c", "b" * 16)
    assert second.newest() is None
    second.save(Checkpoint(1, {"x": torch.zeros(1)}, {}))
    assert first.newest() is None


def test_two_trainers_of_one_stage_exclude_each_other(tmp_path: Path) -> None:
    one, other = Checkpoints(tmp_path / "ner", "a" * 16), Checkpoints(tmp_path / "ner", "b" * 16)
    with (
        one.exclusive(),
        pytest.raises(TrainingError, match="ner is being trained by another process"),
        other.exclusive(),
    ):
        pass
    with other.exclusive():
        pass
