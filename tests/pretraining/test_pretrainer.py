"""Pretrainers: they learn from lists and datasets, resume exactly, and change only the requested weights."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_component, load_composition, save
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.digest import weights_digest
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.characters import CharactersConfig
from cclm_core.objectives.masked_words import MaskedWords
from cclm_core.pretraining import (
    CausalLanguagePretrainer,
    CharacterMaskPretrainer,
    MaskedLanguagePretrainer,
    Pretrainer,
)
from cclm_core.pretraining.texts import divide, plain_texts
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import CompositionError, ConfigError, DataError, TrainingError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from tests.corpora import sentence

GENERATOR = np.random.default_rng(3)
TEXTS = [sentence(GENERATOR, number, "train").text for number in range(150)]
ENCODER = HourglassConfig(core_width=32, num_layers=1, num_heads=2, width=24)
SHAPE = EmbedderConfig(
    embedding=EmbeddingConfig(width=32, ngram_buckets=256),
    encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48),
)
SHORT: dict[str, Any] = {"steps": 6, "batch_size": 4, "window": 32, "evaluation_windows": 8}
PRETRAINERS: dict[str, type[Any]] = {
    "masked": CharacterMaskPretrainer,
    "words": MaskedLanguagePretrainer,
    "causal": CausalLanguagePretrainer,
}


def embedder(causal: bool = False, seed: int = 1, texts: list[str] = TEXTS) -> Embedder:
    encoder = SHAPE.encoder.model_copy(update={"causal": causal})
    with seeded_initialization(seed):
        return Embedder(Preprocessor().fit(texts), SHAPE.model_copy(update={"encoder": encoder}))


def pretrainer(kind: str = "masked", base: Embedder | None = None, **settings: Any) -> Pretrainer:
    causal = kind == "causal"
    encoder = ENCODER.model_copy(update={"causal": causal})
    base = base or embedder(causal)
    new: Pretrainer = PRETRAINERS[kind](base, **{"encoder": encoder, "train_base": True, **settings})
    return new


@pytest.fixture(params=PRETRAINERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def held_out_texts() -> list[str]:
    """The texts that `fit(TEXTS)` holds out."""
    return [record.text for record in divide(plain_texts(TEXTS, None), None, 0.1).held_out()]


def unigram_bits(kind: str, texts: list[str]) -> float:
    """Bits per character, or per word, of a unigram model fitted on the same texts."""
    text = " ".join(texts)
    counts = Counter(re.findall(r"\w+", text) if kind == "words" else text)
    return -sum(count / counts.total() * math.log2(count / counts.total()) for count in counts.values())


def test_a_component_beats_the_unigram_baseline_on_held_out_text(kind: str) -> None:
    trainer = pretrainer(kind)
    curve = trainer.fit(TEXTS, steps=120, batch_size=8, window=48, learning_rate=5e-3)
    assert [point["step"] for point in curve] == [0, 100, 120]
    bits = curve[-1][f"held_out_{trainer.objective.selection_metric}"]
    assert bits < 0.75 * unigram_bits(kind, held_out_texts())


def test_a_list_and_a_dataset_give_the_same_bytes(kind: str) -> None:
    results = []
    for texts in (TEXTS, Dataset.from_dict({"text": TEXTS})):
        trainer = pretrainer(kind)
        curve = trainer.fit(texts, **SHORT)
        results.append((curve, trainer.model.digest, trainer.embedder.digest, weights_digest(trainer.objective)))
    assert results[0] == results[1]


def test_the_result_depends_on_seed_and_noise_but_not_on_torch_seed() -> None:
    digests = set()
    for settings in ({}, {"seed": 2}, {"noise": NoiseRecipe(rate=0.2)}):
        torch.manual_seed(len(digests))
        trainer = pretrainer(**settings)
        trainer.fit(TEXTS, **SHORT)
        digests.add(trainer.model.digest)
    assert len(digests) == 3
    again = pretrainer()
    again.fit(TEXTS, **SHORT)
    assert again.model.digest in digests


def test_a_frozen_embedder_is_not_changed(kind: str) -> None:
    base = embedder(causal=kind == "causal").freeze()
    before = base.digest
    trainer = pretrainer(kind, base, train_base=False)
    trainer.fit(TEXTS, **SHORT)
    assert base.digest == before == trainer.model.card.base_digest
    assert trainer.model.card.objective == trainer.config.task.objective
    assert not any(parameter.requires_grad for parameter in base.parameters())


def test_a_trained_base_is_frozen_and_the_component_records_its_new_digest() -> None:
    base = embedder()
    before = base.digest
    first = pretrainer(base=base)
    first.fit(TEXTS, **SHORT)
    assert base.digest != before and first.model.card.base_digest == base.digest
    assert not any(parameter.requires_grad for parameter in base.parameters()) and not base.training
    second = pretrainer(base=base, train_base=False, name="second")
    second.fit(TEXTS, **SHORT)
    composed = ComposedModel(base, [first.model, second.model])
    assert composed(torch.from_numpy(base.preprocessor.encode_batch(TEXTS[:3]).ids)).shape[2] == 48


def test_components_fitted_before_the_base_changed_are_refused() -> None:
    base = embedder()
    first, second = pretrainer(base=base), pretrainer(base=base, name="second")
    first.fit(TEXTS, **SHORT)
    with pytest.raises(ConfigError, match=r"all its weights are frozen. Call `embedder.unfreeze\(\)`"):
        second.fit(TEXTS, **SHORT)
    base.unfreeze()
    second.fit(TEXTS, **SHORT)
    with pytest.raises(CompositionError, match="'masked_characters' was trained on another base"):
        ComposedModel(base, [first.model, second.model])
    base.unfreeze()
    first.fit(TEXTS, **SHORT)
    with pytest.raises(CompositionError, match="'second' was trained on another base"):
        ComposedModel(base, [first.model, second.model])


def test_training_the_base_keeps_frozen_weights() -> None:
    base = embedder()
    base.embedding.requires_grad_(False)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    trainer = pretrainer(base=base)
    for _ in range(2):
        trainer.fit(TEXTS, **SHORT)
        changed = {name for name, weight in base.state_dict().items() if not weight.equal(before[name])}
        assert changed and not any(name.startswith("embedding.") for name in changed)
        assert not any(parameter.requires_grad for parameter in base.parameters()), "frozen for the next components"


def test_fits_in_parallel_threads_equal_fits_one_after_the_other() -> None:
    def fitted(seed: int) -> str:
        trainer = pretrainer(base=embedder().freeze(), train_base=False, seed=seed)
        trainer.fit(TEXTS, **SHORT)
        return trainer.model.digest

    before = torch.get_num_threads(), torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        digests = list(pool.map(fitted, (1, 1, 1, 2)))
    assert digests == [fitted(1)] * 3 + [fitted(2)] and digests[0] != digests[3]
    assert before[0] == torch.get_num_threads() and torch.equal(before[1], torch.get_rng_state())


def test_an_independent_component_does_not_change_the_embedder() -> None:
    base = embedder()
    before = base.digest
    trainer = pretrainer("causal", base, train_base=False, independent=True)
    trainer.fit(TEXTS, **SHORT)
    assert base.digest == before and all(parameter.requires_grad for parameter in base.parameters())
    assert trainer.model.card.base_digest is None
    ComposedModel(base, [trainer.model])


def test_fitting_again_continues_and_does_not_change_the_earlier_component() -> None:
    trainer = pretrainer()
    first_curve = trainer.fit(TEXTS, **SHORT | {"steps": 40})
    first, before = trainer.model, trainer.model.digest
    curve = trainer.fit(TEXTS, **SHORT | {"steps": 40})
    name = f"held_out_{trainer.objective.selection_metric}"
    assert curve[0][name] == pytest.approx(first_curve[-1][name], rel=0.1)  # masks differ
    assert curve[-1][name] < first_curve[-1][name]
    assert trainer.model is not first and first.digest == before != trainer.model.digest
    assert trainer.model.card.origin == first.card.origin


def test_a_failed_call_changes_nothing() -> None:
    trainer = pretrainer()
    trainer.fit(TEXTS, **SHORT)
    before = (trainer.model, trainer.model.digest, trainer.embedder.digest)
    with pytest.raises(TrainingError, match="must be finite"):
        trainer.fit(TEXTS, **SHORT, learning_rate=1e12, precision="fp32", gradient_clip=1e12, warmup_steps=0)
    assert before == (trainer.model, trainer.model.digest, trainer.embedder.digest)


def test_words_come_from_the_texts_of_the_first_call() -> None:
    trainer = pretrainer("words")
    trainer.fit(TEXTS, **SHORT)
    held_out = held_out_texts()
    assert isinstance(trainer.objective, MaskedWords)
    names = trainer.objective.targets.names
    trainer.fit([*held_out, "other words, other words", "and more"], **SHORT)
    assert isinstance(trainer.objective, MaskedWords) and trainer.objective.targets.names == names
    few = pretrainer("words", words=TargetsConfig(max_targets=3))
    few.fit(TEXTS, **SHORT)
    configured = embedder()
    configured.preprocessor = Preprocessor(VocabularyConfig(words=TargetsConfig(max_targets=3))).fit(TEXTS)
    from_preprocessor = pretrainer("words", configured)
    from_preprocessor.fit(TEXTS, **SHORT)
    for objective in (few.objective, from_preprocessor.objective):
        assert isinstance(objective, MaskedWords) and objective.targets.num_targets == 3


def test_epochs_are_converted_to_steps() -> None:
    size = sum(len(text) + 1 for text in divide(plain_texts(TEXTS, None), None, 0.1).training_texts())
    windows = math.ceil((size + 31) / 32)
    curve = pretrainer().fit(TEXTS, epochs=2, batch_size=16, window=32)
    assert curve[-1]["step"] == 2 * math.ceil(windows / 16)


def test_texts_can_have_any_length_and_unseen_characters(kind: str) -> None:
    base = embedder(causal=kind == "causal", texts=["abc"])
    trainer = pretrainer(kind, base, **{"words": TargetsConfig(min_count=1)} if kind == "words" else {})
    texts = ["", "a", "Ἐν ἀρχῇ", "🚀", "", "x" * 500]
    curve = trainer.fit(texts, validation=["", "Ἐν ὁ λόγος", "🚀🚀"], **SHORT)
    assert all(math.isfinite(value) for value in curve[-1].values())


CHILD = """
import sys, torch
torch.set_num_threads(1)
from tests.pretraining.test_pretrainer import TEXTS, LONG, pretrainer
pretrainer().fit(TEXTS, checkpoints=sys.argv[1], **LONG)
"""
LONG = SHORT | {"steps": 60, "checkpoint_every": 5, "evaluate_every": 20}


def kill_midway(checkpoints: Path) -> None:
    """Calls `fit` in another process, and kills it once two checkpoints exist."""
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(checkpoints)], cwd=root)
    while child.poll() is None and len(list(checkpoints.rglob("step-*"))) < 2:
        time.sleep(0.001)
    assert child.poll() is None, "the training finished before it could be killed"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_call_resumes_bit_exactly_and_a_finished_call_is_restored(tmp_path: Path) -> None:
    whole = pretrainer()
    curve = whole.fit(TEXTS, **LONG)
    kill_midway(tmp_path)
    resumed = pretrainer()
    assert resumed.fit(TEXTS, checkpoints=tmp_path, **LONG) == curve
    assert resumed.model.digest == whole.model.digest and resumed.embedder.digest == whole.embedder.digest
    (finished,) = tmp_path.rglob("step-*")
    modified = finished.stat().st_mtime_ns
    again = pretrainer()
    assert again.fit(TEXTS, checkpoints=tmp_path, **LONG) == curve
    assert again.model.digest == whole.model.digest and again.embedder.digest == whole.embedder.digest
    assert finished.stat().st_mtime_ns == modified
    assert pretrainer(seed=2).fit(TEXTS, checkpoints=tmp_path, **LONG) != curve


def test_save_publishes_a_component(tmp_path: Path) -> None:
    trainer = pretrainer()
    curve = trainer.fit(TEXTS, **SHORT)
    trainer.save(tmp_path / "part")
    verify(tmp_path / "part", "component")
    assert load_component(tmp_path / "part").digest == trainer.model.digest
    names = {path.name for path in (tmp_path / "part").iterdir()}
    assert names >= {"head.safetensors", "curve.csv", "metrics.json", "card.json"}
    assert (tmp_path / "part" / "curve.csv").read_text().count("\n") == 1 + len(curve)


def test_any_objective_that_needs_only_text_can_be_trained() -> None:
    trainer = Pretrainer(embedder().freeze(), CharactersConfig(), encoder=ENCODER)
    curve = trainer.fit(TEXTS, **SHORT | {"steps": 60})
    assert curve[-1]["held_out_bits_per_byte"] < 0.9 * curve[0]["held_out_bits_per_byte"]


def test_a_progress_bar_is_drawn_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = pretrainer()
    trainer.fit(TEXTS, **SHORT)
    assert capsys.readouterr() == ("", "")
    trainer.fit(TEXTS, **SHORT, progress=True)
    assert "masked_characters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "fit", "message"),
    [
        ({"train_base": False}, {"steps": 1}, "must be frozen if `train_base=False`"),
        ({"base": embedder().freeze()}, {"steps": 1}, r"all its weights are frozen. Call `embedder.unfreeze\(\)`"),
        ({}, {"steps": 1, "callback": 3}, "`callback` must be a function of a step and values, got int"),
        ({}, {}, "either `epochs` or `steps`, got epochs=None and steps=None"),
        ({}, {"steps": 1, "epochs": 1}, "either `epochs` or `steps`, got epochs=1 and steps=1"),
        ({}, {"epochs": 0}, "`epochs` must be a finite number above 0, got 0"),
        ({}, {"steps": -1}, "steps must be greater than or equal to 0, got -1"),
        ({}, {"steps": 1, "bach_size": 4}, "bach_size is not a known key; did you mean 'batch_size'?"),
    ],
)
def test_invalid_settings_of_fit_are_rejected(settings: dict[str, Any], fit: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrainer(**settings).fit(TEXTS, **fit)


def test_too_few_texts_are_rejected() -> None:
    with pytest.raises(DataError, match="at least two distinct nonempty texts are needed, got one"):
        pretrainer().fit(["only one"], steps=1)
    with pytest.raises(DataError, match="held-out texts contain no target for MaskedWords"):
        pretrainer("words").fit(TEXTS, validation=["...", "🚀"], steps=1)


def test_the_first_pretrainer_trains_a_new_embedder_and_the_next_one_uses_it_frozen() -> None:
    base = embedder()
    before = base.digest
    first, second = (pretrainer(base=base, name=name, train_base=None) for name in ("first", "second"))
    first.fit(TEXTS, **SHORT)
    trained = base.digest
    assert trained != before and not any(parameter.requires_grad for parameter in base.parameters())
    second.fit(TEXTS, **SHORT)
    first.fit(TEXTS, **SHORT)
    assert base.digest == trained == first.model.card.base_digest == second.model.card.base_digest
    explicit = pretrainer(name="first")
    explicit.fit(TEXTS, **SHORT)
    assert explicit.embedder.digest == trained, "the default must equal train_base=True for a new embedder"


def test_a_missing_or_wrong_objective_is_rejected() -> None:
    with pytest.raises(ConfigError, match="`task` is missing"):
        Pretrainer(embedder())
    with pytest.raises(ConfigError, match="`task` of CharacterMaskPretrainer must be a MaskedCharactersConfig"):
        CharacterMaskPretrainer(embedder(), CharactersConfig())


def test_contradictory_settings_are_rejected() -> None:
    with pytest.raises(ConfigError, match="`train_base` and `independent` cannot both be true"):
        pretrainer(independent=True)
    with pytest.raises(ConfigError, match=r"`name` must consist of letters, digits, _ and -, got 'a/b'"):
        pretrainer(name="a/b")
    with pytest.raises(CompositionError, match="cannot build a causal component on a bidirectional base"):
        CausalLanguagePretrainer(embedder(), train_base=True)
    with pytest.raises(ConfigError, match="predicts later characters and needs a causal encoder"):
        CausalLanguagePretrainer(embedder(causal=True), encoder=ENCODER, train_base=True).fit(TEXTS, steps=1)


def test_an_unfitted_pretrainer_has_no_model(tmp_path: Path) -> None:
    trainer = pretrainer()
    for access in (lambda: trainer.model, lambda: trainer.objective, lambda: trainer.save(tmp_path / "part")):
        with pytest.raises(TrainingError, match="'masked_characters' is not fitted"):
            access()


@pytest.mark.parametrize("train_base", [False, True])
def test_a_composition_can_be_the_base(train_base: bool, tmp_path: Path) -> None:
    base, first, second = embedder().freeze(), pretrainer(name="first"), pretrainer(name="second")
    for number, trainer in enumerate((first, second)):
        trainer.embedder, trainer.train_base = base, False
        trainer.fit(TEXTS[number::2], **SHORT)
    inner = ComposedModel(base, [first.model, second.model], "inner").freeze()
    inner_digest, base_digest = inner.digest, base.digest
    top = pretrainer(base=inner, name="top", train_base=train_base)  # type: ignore[arg-type]
    if train_base:
        inner.unfreeze()
    curve = top.fit(TEXTS, **SHORT | {"steps": 40, "learning_rate": 5e-3})
    name = "held_out_bits_per_masked_character"
    assert curve[-1][name] < curve[0][name]
    assert (inner.digest != inner_digest) == train_base == (base.digest != base_digest)
    assert top.model.card.base_digest == inner.digest
    outer = ComposedModel(inner, [top.model], "outer").eval()
    save(outer, tmp_path)
    assert np.array_equal(load_composition(tmp_path).embed(["Viola"])[0], outer.embed(["Viola"])[0])
