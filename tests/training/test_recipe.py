"""Settings of the recipe: averaged weights, rates of tables, schedules, and a masking rate that changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.objectives.entities import EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import MASK
from cclm_core.training.average import Average
from cclm_core.training.checkpoint import Progress, from_checkpoint, to_checkpoint
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import evaluate, train
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import build_optimizer, learning_rate
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, data, new_module, run, store

AVERAGED = {"average": 0.9, "average_from": 0.3}  # begins after 7 of 24 steps


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "encoded"
    encode(folder, records(60))
    return folder


def _weights(module: TrainingModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_average_is_the_mean_of_the_later_weights_with_falling_factors() -> None:
    model, config = nn.Linear(1, 1, bias=False), TrainingConfig(steps=12, average=0.8, average_from=0.25)
    average = Average(model, config)
    for done in range(1, 13):
        nn.init.constant_(model.weight, done)
        average.update(done)
    # Begins after 3 steps and reads every fourth one: the weights 4, 8 and 12.
    factors = np.array([0.8**8, 0.8**4, 1])
    expected = float(np.dot(factors, [4, 8, 12]) / factors.sum())
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 12
    average.publish()
    assert model.weight.item() == pytest.approx(expected)


def test_averaged_weights_are_published_and_measured(encoded: Path, tmp_path: Path) -> None:
    module, curve = run(encoded, tmp_path / "averaged", **AVERAGED)
    plain, plain_curve = run(encoded, tmp_path / "plain")
    name = "held_out_bits_per_masked_character"
    # Averaging changes no step: the losses are equal, the evaluations are from the moment it begins.
    assert [point.get("loss") for point in curve] == [point.get("loss") for point in plain_curve]
    assert curve[1][name] == plain_curve[1][name] and curve[-1][name] != plain_curve[-1][name]
    held_out = Windows(EncodedCorpus.open(encoded).split("validation"), CONFIG.window).fixed(4, SEED)
    assert evaluate(module, held_out, CONFIG, SEED)[name] == curve[-1][name]
    newest = store(tmp_path / "averaged").newest()
    assert newest is not None
    trained, published = plain.state_dict(), module.state_dict()
    for parameter, _ in module.named_parameters():
        assert torch.equal(newest.tensors[f"average.{parameter}"], published[parameter])
        assert torch.equal(newest.tensors[f"model.{parameter}"], trained[parameter])


@pytest.mark.parametrize("kept", [8, 4])
def test_an_averaged_training_resumes_exactly(encoded: Path, tmp_path: Path, kept: int) -> None:
    """A training that ended after `kept` steps, when the average had begun or not, gives the same weights."""
    whole, curve = run(encoded, tmp_path / "whole", **AVERAGED, checkpoint_every=1, keep="best")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, *_: object) -> None:
        if step > kept:
            raise Stop

    with pytest.raises(Stop):
        run(encoded, tmp_path / "parts", report=stop, **AVERAGED, checkpoint_every=1, evaluate_every=5, keep="best")
    newest = store(tmp_path / "parts").newest()
    assert newest is not None and newest.step < 24
    assert any(name.startswith("average.") for name in newest.tensors) == (newest.step > 7)
    resumed, again = run(encoded, tmp_path / "parts", **AVERAGED, checkpoint_every=1, keep="best")
    assert again == curve
    first, second = _weights(whole), _weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_an_average_a_checkpoint_has_none(encoded: Path, tmp_path: Path) -> None:
    run(encoded, tmp_path / "plain")
    newest = store(tmp_path / "plain").newest()
    assert newest is not None and not any(name.startswith("average.") for name in newest.tensors)


def test_an_average_of_another_model_is_refused() -> None:
    config, progress = TrainingConfig(steps=4, average=0.9, average_from=0), Progress()
    model = nn.Linear(2, 2)
    average, optimizer = Average(model, config), torch.optim.AdamW(model.parameters())
    average.update(1)
    checkpoint = to_checkpoint(1, model, optimizer, progress, average)
    checkpoint.tensors["average.weight"] = torch.zeros(3)
    with pytest.raises(TrainingError, match="the average has other names or shapes than the weights"):
        from_checkpoint(checkpoint, model, optimizer, average)


def test_tables_have_their_own_rate_and_decay(encoded: Path) -> None:
    module = new_module(EncodedCorpus.open(encoded), MaskedCharactersConfig())
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    assert len(tables) == 3
    config = TrainingConfig(table_rate=3, table_decay=False, beta2=0.99)
    groups = build_optimizer(module, config).param_groups
    of_tables = [group for group in groups if {id(parameter) for parameter in group["params"]} & tables]
    (group,) = of_tables
    assert {id(parameter) for parameter in group["params"]} == tables
    assert (group["factor"], group["weight_decay"], group["betas"]) == (3, 0, (0.9, 0.99))
    others = [group for group in groups if group is not of_tables[0] and group["params"]]
    assert {group["factor"] for group in others} == {1} and {group["weight_decay"] for group in others} == {0, 0.05}
    default = build_optimizer(module, TrainingConfig()).param_groups
    assert [(group["factor"], group["weight_decay"]) for group in default] == [(1, 0.05), (1, 0)]
    assert all(group["betas"] == (0.9, 0.98) for group in default)
    assert all(parameter.ndim >= 2 for parameter in default[0]["params"])


def test_the_rate_of_tables_changes_what_is_learned(encoded: Path, tmp_path: Path) -> None:
    plain, _ = run(encoded, tmp_path / "plain", steps=4)
    fast, _ = run(encoded, tmp_path / "fast", steps=4, table_rate=3.0)
    first, second = plain.state_dict(), fast.state_dict()
    table = next(name for name in first if "embedding.ngrams.0" in name)
    start = new_module(EncodedCorpus.open(encoded), MaskedCharactersConfig(), EntitiesConfig()).state_dict()
    moved, moved_fast = ((weights[table] - start[table]).abs().mean() for weights in (first, second))
    assert 2 < moved_fast / moved < 4


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("cosine", [0.1, 1, 0.5 * (1 + np.cos(np.pi / 4)), 0.5, 0.5 * (1 + np.cos(np.pi * 0.75))]),
        ("linear", [0.1, 1, 0.75, 0.5, 0.25]),
        ("flat", [0.1, 1, 1, 1, 1 - np.sqrt(5 / 22)]),
    ],
)
def test_schedules(schedule: str, shares: list[float]) -> None:
    config = TrainingConfig.parse({"steps": 110, "warmup_steps": 10, "learning_rate": 1, "schedule": schedule}, "test")
    rates = [learning_rate(step, config) for step in (0, 10, 35, 60, 85)]
    expected = shares if schedule != "flat" else [*shares[:4], 1]
    assert rates == pytest.approx(expected)
    if schedule == "flat":  # the last 22 steps decay
        assert learning_rate(93, config) == pytest.approx(shares[4])
    rates = [learning_rate(step, config) for step in range(10, 110)]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.03


def test_the_masking_rate_changes_during_the_training(encoded: Path) -> None:
    corpus = EncodedCorpus.open(encoded)
    windows = Windows(corpus.split("train"), 48).batch(0, 64, 1)
    config = MaskedCharactersConfig(rate=0.4, final_rate=0.1, mask_share=1.0)

    def share(module: TrainingModule, progress: float) -> float:
        (example,) = module.training_examples(windows, SEED, 0, progress)
        return float((example.ids == MASK).float().mean()) / (windows.ids > 0).mean()

    module = new_module(corpus, config, noise_rate=0)
    assert [share(module, progress) for progress in (0, 0.5, 1)] == pytest.approx([0.4, 0.25, 0.1], abs=0.04)
    (held_out,) = module.examples(windows, False, SEED, "held out", 0)
    final = new_module(corpus, MaskedCharactersConfig(rate=0.1, mask_share=1.0), noise_rate=0)
    assert torch.equal(held_out.ids, final.examples(windows, False, SEED, "held out", 0)[0].ids)
    constant = new_module(corpus, MaskedCharactersConfig(), noise_rate=0)
    (example,) = constant.training_examples(windows, SEED, 3, 0.7)
    assert torch.equal(example.ids, constant.examples(windows, True, SEED, "training", 3)[0].ids)


def test_a_training_reads_the_masking_rate_of_each_step(encoded: Path, tmp_path: Path) -> None:
    corpus = EncodedCorpus.open(encoded)
    seen: list[float] = []

    class Recorded(TrainingModule):
        def training_examples(self, batch, seed, number, progress):  # type: ignore[no-untyped-def]
            seen.append(progress)
            return super().training_examples(batch, seed, number, progress)

    module = new_module(corpus, MaskedCharactersConfig(rate=0.4, final_rate=0.1))
    module.__class__ = Recorded
    config = CONFIG.model_copy(update={"steps": 5, "accumulate": 2})
    train(module, data(corpus, config), config, SEED, store(tmp_path), null_report, workers=0)
    assert seen == pytest.approx([number / 9 for number in range(10)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"average": 1.0}, "average must be less than 1"),
        ({"average_from": 1.0}, "average_from must be less than 1"),
        ({"schedule": "step"}, "schedule must be 'cosine', 'linear' or 'flat'"),
        ({"table_rate": 0}, "table_rate must be greater than 0"),
        ({"decay_share": 0}, "decay_share must be greater than 0"),
    ],
)
def test_invalid_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.parse(values, "training")
