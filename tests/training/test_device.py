"""Training on another device: every objective trains, and checkpoints resume on any device."""

from pathlib import Path

import pytest
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.objectives.entities import EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.training.checkpoint import Progress, from_checkpoint, to_checkpoint
from cclm_core.training.loop import evaluate
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import update
from tests.corpora import encode, records
from tests.elsewhere import elsewhere
from tests.training.trainings import CONFIG, OBJECTIVES, SEED, data, new_module, run, store

EXACT = CONFIG.model_copy(update={"precision": "fp32"})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(60), TargetsConfig(min_count=1))


def steps(
    module: TrainingModule, optimizer: torch.optim.Optimizer, corpus: EncodedCorpus, first: int = 0
) -> list[float]:
    """Trains two steps of two batches from step `first`, and returns their losses."""
    windows = data(corpus, EXACT).training
    losses = []
    for step in range(first, first + 2):
        batches = [module.examples(windows.batch(number, 4, 1), True, SEED, number) for number in (step, step + 10)]
        losses.append(update(module, optimizer, batches, EXACT, step))
    return losses


def momentum(module: TrainingModule) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_evaluates_on_the_device_of_the_weights(name: str, corpus: EncodedCorpus) -> None:
    on_cpu, on_device = (new_module(corpus, OBJECTIVES[name], noise_rate=0.1) for _ in range(2))
    held_out = data(corpus, EXACT).held_out.fixed(4, SEED)
    expected = steps(on_cpu, momentum(on_cpu), corpus), evaluate(on_cpu, held_out, EXACT, SEED)
    with elsewhere() as device:
        on_device.to(device)
        losses, metrics = steps(on_device, momentum(on_device), corpus), evaluate(on_device, held_out, EXACT, SEED)
    assert losses == pytest.approx(expected[0], rel=1e-5)
    assert metrics == pytest.approx(expected[1], rel=1e-5)


def test_a_checkpoint_resumes_on_another_device(corpus: EncodedCorpus, tmp_path: Path) -> None:
    whole, interrupted, resumed = (new_module(corpus, MaskedCharactersConfig(), EntitiesConfig()) for _ in range(3))
    optimizer = momentum(whole)
    steps(whole, optimizer, corpus)
    expected = steps(whole, optimizer, corpus, first=2)
    with elsewhere() as device:
        optimizer, progress = momentum(interrupted.to(device)), Progress()
        steps(interrupted, optimizer, corpus)
        progress.add({"step": 2})
        progress.compare(1.0, interrupted, keep=True)
        assert all(type(tensor) is torch.Tensor for tensor in progress.best.values()), "best weights must be on the CPU"
        store(tmp_path).save(to_checkpoint(2, interrupted, optimizer, progress))
    optimizer = momentum(resumed)
    newest = store(tmp_path).newest()
    assert newest is not None
    assert from_checkpoint(newest, resumed, optimizer).metadata() == progress.metadata()
    assert steps(resumed, optimizer, corpus, first=2) == pytest.approx(expected, rel=1e-5)
    for name, value in resumed.state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[name], atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_training_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32, the losses of a short training differ only by rounding. A GPU checkpoint resumes on the CPU."""
    encode(tmp_path / "encoded", records(60))
    curves, modules = {}, {}
    for name in ("cpu", "cuda"):
        monkeypatch.setenv("CCLM_DEVICE", name)
        changes = {"precision": "fp32", "keep": "best", "accumulate": 2}
        modules[name], curves[name] = run(tmp_path / "encoded", tmp_path / name, **changes)
    for on_cpu, on_gpu in zip(curves["cpu"], curves["cuda"], strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=0.02)
    assert next(modules["cuda"].parameters()).device.type == "cpu"
    monkeypatch.setenv("CCLM_DEVICE", "cpu")
    newest = max((tmp_path / "cuda").rglob("step-*"))
    newest.unlink()  # leaves the checkpoint of step 20 of 24
    _, resumed = run(tmp_path / "encoded", tmp_path / "cuda", **changes)
    assert resumed[-1] == pytest.approx(curves["cpu"][-1], rel=0.02)
