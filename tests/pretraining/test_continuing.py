"""Pretrainers: predicted words, callbacks, saved folders, frozen weights."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cclm_core.composition.store import load, save
from cclm_core.encoders.digest import weights_digest
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.denoise import DenoiseConfig
from cclm_core.pretraining import CharacterMaskPretrainer, MaskedLanguagePretrainer, Pretrainer
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.text.word_targets import WordTargets
from tests.corpora import VERBS
from tests.pretraining.test_pretrainer import ENCODER, SHORT, TEXTS, embedder, held_out_texts, pretrainer


def test_masked_words_are_predicted_by_name_also_after_loading(tmp_path: Path) -> None:
    trainer = pretrainer("words")
    trainer.fit(TEXTS, steps=100, batch_size=8, window=48, learning_rate=5e-3)
    trainer.save(tmp_path / "words")
    save(trainer.embedder, tmp_path / "base")
    loaded = MaskedLanguagePretrainer.load(str(tmp_path / "words"), str(tmp_path / "base"))
    for model in (trainer, loaded):
        assert isinstance(model, MaskedLanguagePretrainer)
        words = model.predict("Viola greets the sea.", 6, 12, num_words=3)
        assert len(words) == 3 and words[0].word in VERBS
        assert all(left.probability >= right.probability > 0 for left, right in pairwise(words))
    long = "Viola loves the sea. " * 20
    assert loaded.predict(long, 216, 221) and loaded.predict("Viola", 0, 5)
    for start, end, message in ((3, 3, "got 3 to 3"), (0, 99, "got 0 to 99"), (-1, 2, "got -1 to 2")):
        with pytest.raises(DataError, match=message):
            loaded.predict("Viola", start, end)
    with pytest.raises(DataError, match="at most 24 ids, half a training window, got 30"):
        loaded.predict(long, 0, 30)


@pytest.mark.parametrize("kind", ["masked", "words", "causal"])
def test_a_loaded_pretrainer_continues_like_the_original(kind: str, tmp_path: Path) -> None:
    trainer = pretrainer(kind, noise=NoiseRecipe(rate=0.1), name="part", seed=3)
    trainer.fit(TEXTS, **SHORT)
    trainer.save(tmp_path / "part")
    save(trainer.embedder, tmp_path / "base")
    base = load(tmp_path / "base").freeze()  # type: ignore[union-attr]
    loaded = type(trainer).load(tmp_path / "part", base)
    trainer.train_base = None
    for each in (trainer, loaded):
        each.fit(TEXTS, **SHORT)
    assert loaded.model.digest == trainer.model.digest
    assert weights_digest(loaded.objective) == weights_digest(trainer.objective)
    assert (loaded.name, loaded.seed, loaded.noise, loaded.words) == ("part", 3, trainer.noise, trainer.words)


def test_the_class_must_match_the_objective_of_the_folder(tmp_path: Path) -> None:
    trainer = pretrainer()
    trainer.fit(TEXTS, **SHORT)
    trainer.save(tmp_path / "part")
    with pytest.raises(ConfigError, match="`task` of MaskedLanguagePretrainer must be a MaskedWordsConfig"):
        MaskedLanguagePretrainer.load(tmp_path / "part", trainer.embedder)
    assert Pretrainer.load(tmp_path / "part", trainer.embedder).model.digest == trainer.model.digest


def test_a_corrector_made_in_python_knows_words(tmp_path: Path) -> None:
    base = embedder().freeze()
    trainer = Pretrainer(base, DenoiseConfig(), encoder=ENCODER)
    trainer.fit(TEXTS, **SHORT)
    trainer.save(tmp_path / "denoise")
    assert "Viola" in WordTargets.load(tmp_path / "denoise" / "targets.json").names
    few = Pretrainer(base, {"objective": "denoise"}, encoder=ENCODER, words={"max_targets": 3})
    few.fit(TEXTS, **SHORT)
    few.save(tmp_path / "few")
    assert WordTargets.load(tmp_path / "few" / "targets.json").num_targets == 3


def test_the_callback_receives_each_point_once() -> None:
    points: list[tuple[int, dict[str, float]]] = []
    trainer = pretrainer()
    curve = trainer.fit(
        TEXTS,
        **SHORT | {"steps": 25, "evaluate_every": 10},
        callback=lambda step, values: points.append((step, dict(values))),
    )
    assert [{"step": step, **values} for step, values in points] == curve
    assert [step for step, _ in points] == [0, 10, 20, 25]


def test_an_error_of_the_callback_stops_the_training_and_changes_nothing() -> None:
    trainer = pretrainer()
    before = trainer.embedder.digest

    def stop(step: int, values: Any) -> None:  # noqa: ARG001
        if step:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trainer.fit(TEXTS, **SHORT, callback=stop)
    assert trainer.embedder.digest == before and "not fitted" in repr(trainer)


def test_frozen_weights_of_a_trained_base_stay_as_they_are() -> None:
    base = embedder()
    base.embedding.requires_grad_(False)
    embedding, encoder = weights_digest(base.embedding), weights_digest(base.encoder)
    trainer = pretrainer(base=base)
    for _ in range(2):  # the second call continues with the same weights, although the first one froze all of them
        trainer.fit(TEXTS, **SHORT)
        assert weights_digest(base.embedding) == embedding
        assert weights_digest(base.encoder) != encoder
        encoder = weights_digest(base.encoder)


def test_a_frozen_base_is_trained_only_after_unfreezing() -> None:
    base = embedder().freeze()
    before = base.digest
    trainer = pretrainer(base=base)
    with pytest.raises(ConfigError, match=r"`train_base=True` cannot train the embedder.*unfreeze\(\)"):
        trainer.fit(TEXTS, **SHORT)
    assert base.digest == before
    base.unfreeze()
    trainer.fit(TEXTS, **SHORT)
    assert base.digest != before
    other = pretrainer(base=base, name="other")
    with pytest.raises(ConfigError, match="unfreeze"):  # `trainer` froze it
        other.fit(TEXTS, **SHORT)


def test_a_frozen_component_is_trained_only_after_unfreezing() -> None:
    trainer = pretrainer()
    trainer.fit(TEXTS, **SHORT)
    trainer.freeze()
    assert not any(weight.requires_grad for weight in trainer.model.parameters()) and not trainer.model.training
    with pytest.raises(ConfigError, match=r"'masked_characters' is frozen\. Call `unfreeze"):
        trainer.fit(TEXTS, **SHORT)
    trainer.unfreeze().fit(TEXTS, **SHORT)


def test_settings_can_be_mappings() -> None:
    trainer = CharacterMaskPretrainer(embedder(), {"rate": 0.3}, noise={"rate": 0.1}, encoder={"kind": "attention"})
    assert (trainer.config.task.rate, trainer.noise.rate) == (0.3, 0.1)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="did you mean 'rate'"):
        CharacterMaskPretrainer(embedder(), {"rat": 0.3})
    with pytest.raises(ConfigError, match="`embedder` must be an Embedder or a ComposedModel, got str"):
        CharacterMaskPretrainer("models/base")  # type: ignore[arg-type]


def test_words_are_only_read_by_objectives_of_words() -> None:
    assert pretrainer(words=TargetsConfig(max_targets=5)).words is None


def test_predictions_do_not_change_weights_or_random_numbers() -> None:
    trainer = pretrainer("words")
    trainer.fit(TEXTS, **SHORT)
    before, state = trainer.model.digest, torch.random.get_rng_state()
    text = held_out_texts()[0]
    assert isinstance(trainer, MaskedLanguagePretrainer)
    assert trainer.predict(text, 0, 3) == trainer.predict(text, 0, 3)
    assert trainer.model.digest == before and np.array_equal(state, torch.random.get_rng_state())
