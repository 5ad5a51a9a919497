"""The training loop: learning, checkpoints, best weights, early stopping, errors. Kills are in test_interrupted.py."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Record
from cclm_core.corpus.windows import Windows
from cclm_core.objectives.characters import CharactersConfig
from cclm_core.objectives.entities import EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.reporting import null_report
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.loop import evaluate, train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Point
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, data, new_module, run, store


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingModule, list[Point]]:
    return run(encoded, tmp_path_factory.mktemp("checkpoints") / "whole")


def have_equal_weights(first: TrainingModule, second: TrainingModule) -> bool:
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_held_out_metrics_improve(uninterrupted: tuple[TrainingModule, list[Point]]) -> None:
    curve = uninterrupted[1]
    assert [point["step"] for point in curve] == [0, 5, 10, 15, 20, 24]
    for name in ("held_out_bits_per_masked_character", "held_out_bits_per_tag"):
        assert curve[-1][name] < 0.8 * curve[0][name]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_prefetching_threads_does_not_change_the_result(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[TrainingModule, list[Point]], workers: int
) -> None:
    module, curve = run(encoded, tmp_path / "other", workers=workers)
    assert curve == uninterrupted[1]
    assert have_equal_weights(module, uninterrupted[0])


def test_every_point_of_a_reported_loss_is_the_mean_since_the_last_point(encoded: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []

    def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:  # noqa: ARG001
        reports.append((step, dict(values)))

    corpus = EncodedCorpus.open(encoded)
    module = new_module(corpus, MaskedCharactersConfig(), EntitiesConfig())
    config = CONFIG.model_copy(update={"steps": 30, "evaluate_every": 25})
    curve = train(module, data(corpus, config), config, SEED, None, report)
    assert [step for step, _ in reports] == [0, 10, 20, 25, 30] and not any("step" in values for _, values in reports)
    losses = {step: values["loss"] for step, values in reports[1:]}
    since_start = (10 * losses[10] + 10 * losses[20] + 5 * losses[25]) / 25
    assert curve[1]["step"] == 25 and since_start == pytest.approx(curve[1]["loss"])
    assert losses[30] == pytest.approx(curve[2]["loss"]) and len({*losses.values()}) == 4


def test_gradients_are_accumulated_over_batches(encoded: Path, tmp_path: Path) -> None:
    module, curve = run(encoded, tmp_path / "four", batch_size=1, accumulate=4)
    single_module, single_curve = run(encoded, tmp_path / "one", batch_size=1)
    assert [point["step"] for point in curve] == [point["step"] for point in single_curve]
    assert not have_equal_weights(module, single_module)
    assert curve[-1]["held_out_bits_per_masked_character"] < 0.8 * curve[0]["held_out_bits_per_masked_character"]


def test_the_best_weights_can_be_kept(encoded: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 0.01, "steps": 100, "evaluation_windows": 2, "keep": "best"}  # overfits
    corpus = EncodedCorpus.open(encoded)
    module, curve = run(encoded, tmp_path / "best", **changes)
    names = ("held_out_bits_per_masked_character", "held_out_bits_per_tag")
    values = {point["step"]: sum(point[name] for name in names) for point in curve[1:]}
    best = min(values, key=lambda step: (values[step], step))
    assert curve[-1]["step"] == best < 100
    held_out = Windows(corpus.split("validation"), CONFIG.window).fixed(2, SEED)
    again = evaluate(module, held_out, CONFIG, SEED)
    assert {name: again[name] for name in names} == {name: curve[-1][name] for name in names}
    newest = store(tmp_path / "best").newest()
    assert newest is not None and newest.step == 100
    weights = module.state_dict()
    assert all(torch.equal(newest.tensors[f"best.{name}"], weights[name]) for name in weights)
    equals_last = [torch.equal(newest.tensors[f"model.{name}"], weights[name]) for name in weights]
    assert not all(equals_last), "the checkpoint must contain the last weights too"
    resumed, same_curve = run(encoded, tmp_path / "best", **changes)
    assert same_curve == curve
    assert have_equal_weights(resumed, module)


def test_training_stops_without_improvement(encoded: Path, tmp_path: Path) -> None:
    """The learning rate is too small to change any weight, so the first evaluation is the best one."""
    changes = {"learning_rate": 1e-30, "steps": 400, "evaluate_every": 2, "patience": 3, "precision": "fp32"}
    _, curve = run(encoded, tmp_path / "patient", **changes)
    assert curve[-1]["step"] == 8
    _, again = run(encoded, tmp_path / "patient", **changes)
    assert again == curve


def test_a_damaged_checkpoint_is_skipped(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[TrainingModule, list[Point]]
) -> None:
    checkpoints = tmp_path / "damaged"
    run(encoded, checkpoints)
    newest = max(checkpoints.rglob("step-*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    module, curve = run(encoded, checkpoints)
    assert curve == uninterrupted[1]
    assert have_equal_weights(module, uninterrupted[0])


def test_the_configuration_changes_the_result(
    encoded: Path, tmp_path: Path, uninterrupted: tuple[TrainingModule, list[Point]]
) -> None:
    module, _ = run(encoded, tmp_path / "other", learning_rate=1e-4)
    assert not have_equal_weights(module, uninterrupted[0])


def test_an_infinite_loss_stops_with_step_and_batch(encoded: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"must be finite, got .* at step \d+ \(batch \d+\)\. Lower training"):
        run(encoded, tmp_path / "hot", learning_rate=1e12, precision="fp32", gradient_clip=1e12, warmup_steps=0)


def test_an_infinite_gradient_stops_before_the_weights_change(encoded: Path, tmp_path: Path) -> None:
    corpus = EncodedCorpus.open(encoded)
    config = CONFIG.model_copy(update={"accumulate": 3})
    module = new_module(corpus, EntitiesConfig())
    calls = count()
    parameter = next(module.parameters())
    parameter.register_hook(lambda gradient: gradient * torch.inf if next(calls) == 4 else gradient)
    with pytest.raises(TrainingError, match=r"gradient norm must be finite, got \w+ at step 2 \(batches 3 to 5\)"):
        train(module, data(corpus, config), config, SEED, store(tmp_path / "c"), null_report)
    assert all(torch.isfinite(weight).all() for weight in module.state_dict().values())


def test_an_undefined_held_out_metric_stops(encoded: Path, tmp_path: Path) -> None:
    corpus = EncodedCorpus.open(encoded)
    module = new_module(corpus, EntitiesConfig())
    with torch.no_grad():
        module.objectives[0].head.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="held_out_bits_per_tag must be finite, got nan"):
        train(module, data(corpus, CONFIG), CONFIG, SEED, store(tmp_path / "c"), null_report)


def test_best_weights_cannot_be_selected_without_held_out_targets(tmp_path: Path) -> None:
    """The validation split has no words, so the objective `characters` has no targets."""
    split_records = [record for record in records(60) if record.split != "validation"]
    split_records += [Record(f"v/{number}", ". . .", None, "v", None, None, (), "validation") for number in range(20)]
    corpus = encode(tmp_path / "encoded", split_records)
    module = new_module(corpus, CharactersConfig())
    config = CONFIG.model_copy(update={"keep": "best"})
    with pytest.raises(TrainingError, match=r"contain no target for Characters\. .* set keep: last"):
        train(module, data(corpus, config), config, SEED, store(tmp_path / "c"), null_report)
    train(module, data(corpus, CONFIG), CONFIG, SEED, store(tmp_path / "last"), null_report)


def test_zero_steps_keep_the_initial_weights(encoded: Path, tmp_path: Path) -> None:
    module, curve = run(encoded, tmp_path / "none", steps=0)
    assert [point["step"] for point in curve] == [0]
    corpus = EncodedCorpus.open(encoded)
    assert have_equal_weights(module, new_module(corpus, MaskedCharactersConfig(), EntitiesConfig()))


def test_two_checkpoints_are_kept_and_those_of_another_identity_are_ignored(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "c", "a" * 16)
    for step in (1, 2, 3):
        if step == 2:
            (first.folder / ".step-00000002-0.safetensors.writing").write_bytes(b"half")
        first.save(Checkpoint(step, {"x": torch.full((2,), float(step))}, {"curve": []}))
    assert len(list(first.folder.iterdir())) == 2, "the partial file must be deleted too"
    newest = first.newest()
    assert newest is not None and newest.step == 3 and newest.tensors["x"].tolist() == [3.0, 3.0]
    second = Checkpoints(tmp_path / "c", "b" * 16)
    assert second.newest() is None
    second.save(Checkpoint(1, {"x": torch.zeros(1)}, {}))
    assert first.newest() is None


def test_a_stage_cannot_be_trained_twice_at_the_same_time(tmp_path: Path) -> None:
    first, second = Checkpoints(tmp_path / "ner", "a" * 16), Checkpoints(tmp_path / "ner", "b" * 16)
    with (
        first.exclusive(),
        pytest.raises(TrainingError, match="ner is being trained by another process"),
        second.exclusive(),
    ):
        pass
    with second.exclusive():
        pass


def test_compiling_needs_a_compiler(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    message = r"training.compile: true needs a C\+\+ compiler; no-such-compiler not found on the path .*compile: f"
    with pytest.raises(ConfigError, match=message):
        run(encoded, tmp_path / "compiled", compile=True)


@pytest.mark.slow
def test_compiled_code_learns_the_same_and_resumes_bit_exactly(encoded: Path, tmp_path: Path) -> None:
    module, curve = run(encoded, tmp_path / "compiled", compile=True, precision="fp32")
    _, plain = run(encoded, tmp_path / "plain", precision="fp32")
    for compiled_point, plain_point in zip(curve, plain, strict=True):
        assert compiled_point == pytest.approx(plain_point, rel=1e-3)
    assert module.state_dict().keys() == run(encoded, tmp_path / "none", steps=0)[0].state_dict().keys()
    max((tmp_path / "compiled").rglob("step-*")).unlink()  # leaves the checkpoint of step 20 of 24
    resumed, again = run(encoded, tmp_path / "compiled", compile=True, precision="fp32")
    assert again == curve
    assert have_equal_weights(resumed, module)


def test_two_objectives_of_the_same_kind_have_separate_metrics(encoded: Path) -> None:
    corpus = EncodedCorpus.open(encoded)
    module = new_module(corpus, MaskedCharactersConfig(rate=0.1), EntitiesConfig(), MaskedCharactersConfig(rate=0.6))
    held_out = data(corpus, CONFIG).held_out.fixed(4, SEED)
    point = evaluate(module, held_out, CONFIG, SEED)
    masked = [f"held_out_bits_per_masked_character_{number}" for number in (1, 3)]
    assert {name for name in point if "masked" in name} == set(masked) and point[masked[0]] != point[masked[1]]
    assert module.selection_value(point) == point[masked[0]] + point["held_out_bits_per_tag"] + point[masked[1]]
