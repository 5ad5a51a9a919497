"""Cached features of a frozen base: the same training, each window computed once, limits, damage, errors."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders import HourglassConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.objectives.catalogue import EntitiesConfig, MaskedCharactersConfig, NextCharactersConfig
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import null_report
from cclm_core.training.component import component_module
from cclm_core.training.config import BaseConfig, FeatureCacheConfig, TrainingConfig
from cclm_core.training.features import FeatureCache, cached_features
from cclm_core.training.loop import open_data, train
from tests.corpora import encode, records
from tests.training.trainings import CONFIG, SEED, SHAPE, store

CACHED = CONFIG.model_copy(update={"cache_features": FeatureCacheConfig(max_gigabytes=1)})
ENCODER = HourglassConfig(core_width=32, num_layers=1, num_heads=2, width=24)
ROW = 48 * 48 * 2 + 20  # bytes of a window of 48 characters with 48 features


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records(60))


def limited(config: TrainingConfig, **values: Any) -> TrainingConfig:
    assert config.cache_features is not None
    return config.model_copy(update={"cache_features": config.cache_features.model_copy(update=values)})


def parts(corpus: EncodedCorpus, task: Any = None, rate: float = 0.0, independent: bool = False) -> Any:
    """A base that counts the rows that it reads (`rows`), a component over it and its objective."""
    config = task or EntitiesConfig()
    with seeded_initialization(1):
        base = Embedder(corpus.preprocessor, SHAPE).freeze()
        component = Component(ComponentCard.over(base, "part", config.objective, ENCODER, independent))
        objective: Objective = config.build(
            ObjectiveContext(
                width=component.width,
                preprocessor=corpus.preprocessor,
                noise=TrainingNoise(rate=rate),
                entity_labels=tuple(corpus.entity_labels),
                document_labels=corpus.document_labels,
            )
        )
    rows: list[int] = []
    base.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    return base, component, objective, rows


def training(corpus: EncodedCorpus, config: TrainingConfig, folder: Path, **settings: Any) -> Any:
    """Weights and curve of a training, and the number of rows that the base read."""
    base, component, objective, rows = parts(corpus)
    checkpoints = store(folder / "checkpoints") if settings.get("resumes") else None
    with cached_features(folder / "features", base, component, objective, config) as cache:
        module = component_module(base, component, objective, cache=cache)
        curve = train(module, open_data(corpus, config), config, SEED, checkpoints, null_report)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}, curve, sum(rows)


def test_the_training_is_the_same_and_the_base_reads_each_window_once(corpus: EncodedCorpus, tmp_path: Path) -> None:
    config = limited(CACHED, precision="fp32").model_copy(update={"steps": 40, "precision": "fp32"})
    weights, curve, rows = training(corpus, config, tmp_path)
    windows = open_data(corpus, config)
    num_windows = windows.training.num_windows(0) + min(4, windows.held_out.num_windows(0))  # type: ignore[attr-defined]
    assert rows == num_windows < 40 * config.batch_size and not (tmp_path / "features").exists()
    # The same windows without a cache.
    base, component, objective, plain_rows = parts(corpus)
    module = component_module(base, component, objective)
    plain = train(module, windows, config, SEED, None, null_report)
    assert plain[-1]["held_out_bits_per_tag"] == pytest.approx(curve[-1]["held_out_bits_per_tag"], rel=1e-4)
    assert sum(plain_rows) > 2 * rows
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-5)


def test_float16_learns_the_same(corpus: EncodedCorpus, tmp_path: Path) -> None:
    exact = training(corpus, limited(CACHED, precision="fp32"), tmp_path / "a")[1]
    rounded = training(corpus, CACHED, tmp_path / "b")[1]
    assert rounded[-1]["held_out_bits_per_tag"] == pytest.approx(exact[-1]["held_out_bits_per_tag"], rel=0.02)


def test_a_full_cache_keeps_what_it_has(corpus: EncodedCorpus, tmp_path: Path) -> None:
    config = limited(CACHED, max_gigabytes=5.5 * ROW / 1e9)
    _, curve, rows = training(corpus, config, tmp_path / "small")
    whole = training(corpus, CACHED, tmp_path / "whole")
    assert rows > whole[2]
    assert curve[-1]["held_out_bits_per_tag"] == pytest.approx(whole[1][-1]["held_out_bits_per_tag"], rel=1e-3)
    base = parts(corpus)[0]
    cache = FeatureCache(tmp_path / "cache", base, config)
    cache.features(torch.from_numpy(open_data(corpus, config).training.batch(0, 8, 1).ids))
    assert len(cache.store) == cache.store.capacity == 5
    cache.close()


def test_an_interrupted_training_resumes_exactly(corpus: EncodedCorpus, tmp_path: Path) -> None:
    whole = training(corpus, CACHED, tmp_path / "whole")
    base, component, objective, rows = parts(corpus)
    calls: list[int] = []

    def stop(step: int, values: object, total: int | None = None) -> None:  # noqa: ARG001
        calls.append(step)
        if step >= 15:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        cached_features(tmp_path / "features", base, component, objective, CACHED) as cache,
    ):
        module = component_module(base, component, objective, cache=cache)
        train(module, open_data(corpus, CACHED), CACHED, SEED, store(tmp_path / "checkpoints"), stop)
    assert (tmp_path / "features").is_dir()
    weights, curve, rows_again = training(corpus, CACHED, tmp_path, resumes=True)
    assert curve == whole[1] and all(torch.equal(tensor, weights[name]) for name, tensor in whole[0].items())
    assert sum(rows) + rows_again == whole[2], "stored features must not be computed again"


def test_damaged_and_foreign_features_are_not_used(corpus: EncodedCorpus, tmp_path: Path) -> None:
    base, ids = parts(corpus)[0], torch.from_numpy(open_data(corpus, CACHED).training.batch(0, 6, 1).ids)
    cache = FeatureCache(tmp_path, base, CACHED)
    expected = cache.features(ids)
    torch.testing.assert_close(expected, base(ids), rtol=1e-3, atol=1e-3)
    cache.close()
    path = next(tmp_path.rglob("rows.bin"))
    content = bytearray(path.read_bytes())
    content[3 * (ROW - 20) + 5] ^= 1
    path.write_bytes(content)
    again = FeatureCache(tmp_path, base, CACHED)
    assert len(again.store) == 3
    assert torch.equal(again.features(ids), expected) and len(again.store) == 6
    again.close()
    with seeded_initialization(2):
        other = Embedder(corpus.preprocessor, SHAPE).freeze()
    different = FeatureCache(tmp_path, other, CACHED)
    assert len(different.store) == 0 and not torch.equal(different.features(ids), expected)
    different.close()


def test_features_that_float16_cannot_hold_are_refused(corpus: EncodedCorpus, tmp_path: Path) -> None:
    base = parts(corpus)[0]
    cache = FeatureCache(tmp_path, base, CACHED)
    base.register_forward_hook(lambda _, __, features: features * 1e9)
    with pytest.raises(TrainingError, match=r"too large for float16: .* Set cache_features\.precision: fp32"):
        cache.features(torch.full((2, 48), 260))
    cache.close()


@pytest.mark.parametrize(
    ("task", "rate", "independent", "train_base", "message"),
    [
        (MaskedCharactersConfig(), 0.0, False, False, "unchanged, but masked_characters masks, cuts or adds noise"),
        (EntitiesConfig(), 0.1, False, False, "unchanged, but entities masks, cuts or adds noise"),
        (EntitiesConfig(), 0.0, True, False, r"a component over the base, but the component 'part' .* is not"),
        (EntitiesConfig(), 0.0, False, True, r"a frozen base, but the base .* is trained, too"),
    ],
)
def test_trainings_that_cannot_use_it_are_refused(
    corpus: EncodedCorpus, tmp_path: Path, task: Any, rate: float, independent: bool, train_base: bool, message: str
) -> None:
    base, component, objective, _ = parts(corpus, task, rate, independent)
    with (
        pytest.raises(ConfigError, match=message),
        cached_features(tmp_path / "features", base, component, objective, CACHED, train_base),
    ):
        pass
    assert not (tmp_path / "features").exists()


def test_which_objectives_read_clean_windows(corpus: EncodedCorpus) -> None:
    assert parts(corpus, NextCharactersConfig())[2].reads_clean_windows
    assert not parts(corpus, NextCharactersConfig(), rate=0.01)[2].reads_clean_windows


def test_the_base_cannot_use_it_and_configurations_without_it_are_unchanged() -> None:
    with pytest.raises(ConfigError, match="is for components over a frozen base"):
        BaseConfig(training={"cache_features": {"max_gigabytes": 1}})
    assert "cache_features" not in TrainingConfig().canonical()
