"""For every objective, a training that is killed with SIGKILL at any point resumes bit-exactly."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import TargetsConfig
from tests.corpora import encode, records
from tests.training.interrupted import MOMENTS, Server, Trial, server
from tests.training.trainings import OBJECTIVES, store

STEPS, EVALUATE_EVERY, CHECKPOINT_EVERY, ACCUMULATE = 14, 4, 3, 2
CHANGES = {
    "steps": STEPS,
    "batch_size": 2,
    "accumulate": ACCUMULATE,
    "evaluate_every": EVALUATE_EVERY,
    "checkpoint_every": CHECKPOINT_EVERY,
    "learning_rate": 0.02,
    "keep": "best",
}
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60), TargetsConfig(min_count=1))
    return folder


@pytest.fixture(scope="module")
def trainings() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module", params=OBJECTIVES)
def whole(
    request: pytest.FixtureRequest, trainings: Server, encoded: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trial:
    """An uninterrupted training of an objective."""
    folder = tmp_path_factory.mktemp("whole")
    trial = Trial(OBJECTIVES[request.param].canonical(), CHANGES, str(encoded), str(folder))
    assert trainings.run(trial) == 0
    return trial


def moments_of(moment: str) -> list[int]:
    """The steps at which a training reaches `moment`, as numbers of updates so far."""
    every = {"evaluation": EVALUATE_EVERY, "saving": CHECKPOINT_EVERY}.get(moment, 1)
    return [step for step in range(1, STEPS) if step % every == 0]


def losses(folder: Path) -> list[tuple[str, str]]:
    """("STEP BATCH", loss) of every batch, in the order of computation."""
    lines = (folder / "losses.txt").read_text().splitlines()
    return [(line.rsplit(" ", 1)[0], line.rsplit(" ", 1)[1]) for line in lines]


def check(interrupted: Trial, whole: Trial, num_kills: int) -> None:
    """Both trainings wrote the same bytes, and batches computed more than once had the same loss each time."""
    folder, expected = Path(interrupted.folder), Path(whole.folder)
    for name in ("weights.safetensors", "curve.json"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    # The last checkpoint contains the last and the best weights, the optimizer state, losses and curve.
    newest = max((expected / "checkpoints").rglob("step-*"))
    assert (folder / newest.relative_to(expected)).read_bytes() == newest.read_bytes()
    assert newest.name.startswith(f"step-{STEPS:08d}-") and not list(folder.rglob("*.writing"))
    computed, expected_losses = losses(folder), losses(expected)
    assert len(expected_losses) == STEPS * ACCUMULATE
    assert dict(computed) == dict(expected_losses) and set(computed) == set(expected_losses)
    most = len(expected_losses) + num_kills * CHECKPOINT_EVERY * ACCUMULATE
    assert len(computed) <= most, "a kill lost more than one checkpoint interval"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_sigkill_at_a_random_step_does_not_change_the_result(
    whole: Trial, trainings: Server, tmp_path: Path, moment: str
) -> None:
    step = int(derive(1, whole.task["objective"], moment).choice(moments_of(moment)))
    again = whole._replace(folder=str(tmp_path))
    assert trainings.run(again._replace(moment=moment, step=step)) == KILLED
    assert not (tmp_path / "weights.safetensors").exists()
    assert trainings.run(again) == 0
    check(again, whole, num_kills=1)


def test_three_sigkills_do_not_change_the_result(whole: Trial, trainings: Server, tmp_path: Path) -> None:
    generator = derive(1, whole.task["objective"], "three")
    again = whole._replace(folder=str(tmp_path))
    for step in sorted(generator.choice(moments_of("update"), 3, replace=False).tolist()):
        moment = str(generator.choice(["forward", "backward", "update"]))
        assert trainings.run(again._replace(moment=moment, step=step)) == KILLED
    assert trainings.run(again) == 0
    check(again, whole, num_kills=3)


@pytest.mark.parametrize("whole", ["entities"], indirect=True)
@pytest.mark.parametrize("moment", ["forward", "evaluation"])
def test_a_sigterm_saves_the_step_and_exits(whole: Trial, trainings: Server, tmp_path: Path, moment: str) -> None:
    again = whole._replace(folder=str(tmp_path))
    step = EVALUATE_EVERY
    assert trainings.run(again._replace(moment=moment, step=step, signal=signal.SIGTERM)) == 128 + signal.SIGTERM
    newest = store(tmp_path / "checkpoints").newest()
    assert newest is not None and newest.step == (step if moment == "evaluation" else step + 1)
    assert trainings.run(again) == 0
    check(again, whole, num_kills=1)
    assert len(losses(tmp_path)) == STEPS * ACCUMULATE, "a step was computed twice"
