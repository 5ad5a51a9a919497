"""Pretrainers: they learn, on a list as on a dataset; they change what they are told to, and no bit more."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_component, load_composition, save
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig, weights_digest
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.characters import CharactersConfig
from cclm_core.objectives.masked_words import MaskedWords
from cclm_core.pretraining import (
    CausalLanguagePretrainer,
    CharacterMaskPretrainer,
    MaskedLanguagePretrainer,
    Pretrainer,
)
from cclm_core.pretraining.texts import divide
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import CompositionError, ConfigError, DataError, TrainingError
from cclm_core.runtime.random import seeded_initialisation
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
FACES: dict[str, type[Any]] = {
    "masked": CharacterMaskPretrainer,
    "words": MaskedLanguagePretrainer,
    "causal": CausalLanguagePretrainer,
}


def embedder(causal: bool = False, seed: int = 1, texts: list[str] = TEXTS) -> Embedder:
    encoder = SHAPE.encoder.model_copy(update={"causal": causal})
    with seeded_initialisation(seed):
        return Embedder(Preprocessor().fit(texts), SHAPE.model_copy(update={"encoder": encoder}))


def pretrainer(face: str = "masked", base: Embedder | None = None, **settings: Any) -> Pretrainer:
    causal = face == "causal"
    encoder = ENCODER.model_copy(update={"causal": causal})
    base = base or embedder(causal)
    made: Pretrainer = FACES[face](base, **{"encoder": encoder, "train_base": True, **settings})
    return made


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def unigram_bits(face: str, texts: list[str]) -> float:
    """Bits of a character, or of a word, for who knows how frequent each is and reads nothing."""
    text = " ".join(texts)
    counts = Counter(re.findall(r"\w+", text) if face == "words" else text)
    return -sum(count / counts.total() * math.log2(count / counts.total()) for count in counts.values())


def test_it_beats_the_trivial_baseline_on_held_out_text(face: str) -> None:
    one = pretrainer(face)
    curve = one.fit(TEXTS, steps=120, batch_size=8, window=48, learning_rate=5e-3)
    assert [point["step"] for point in curve] == [0, 100, 120]
    bits = curve[-1][f"held_out_{one.objective.selection_metric}"]
    assert bits < 0.75 * unigram_bits(face, list(divide(TEXTS, None, None, 0.1).held_out()))


def test_a_list_and_a_dataset_give_the_same_bytes(face: str) -> None:
    made = []
    for texts in (TEXTS, Dataset.from_dict({"text": TEXTS})):
        one = pretrainer(face)
        made.append((one.fit(texts, **SHORT), one.model.digest, one.embedder.digest, weights_digest(one.objective)))
    assert made[0] == made[1]


def test_the_seed_and_noise_matter_and_nothing_else_is_drawn() -> None:
    digests = set()
    for settings in ({}, {"seed": 2}, {"noise": NoiseRecipe(rate=0.2)}):
        torch.manual_seed(len(digests))
        one = pretrainer(**settings)
        one.fit(TEXTS, **SHORT)
        digests.add(one.model.digest)
    assert len(digests) == 3
    again = pretrainer()
    again.fit(TEXTS, **SHORT)
    assert again.model.digest in digests


def test_a_frozen_embedder_is_not_touched(face: str) -> None:
    base = embedder(causal=face == "causal").freeze()
    before = base.digest
    one = pretrainer(face, base, train_base=False)
    one.fit(TEXTS, **SHORT)
    assert base.digest == before == one.model.card.base_digest
    assert one.model.card.objective == one.config.task.objective
    assert not any(parameter.requires_grad for parameter in base.parameters())


def test_a_base_that_is_trained_freezes_and_the_component_names_what_it_became() -> None:
    base = embedder()
    before = base.digest
    one = pretrainer(base=base)
    one.fit(TEXTS, **SHORT)
    assert base.digest != before and one.model.card.base_digest == base.digest
    assert not any(parameter.requires_grad for parameter in base.parameters()) and not base.training
    other = pretrainer(base=base, train_base=False, name="other")
    other.fit(TEXTS, **SHORT)
    composed = ComposedModel(base, [one.model, other.model])
    assert composed(torch.from_numpy(base.preprocessor.encode_batch(TEXTS[:3]).ids)).shape[2] == 48


def test_a_component_that_was_fitted_before_the_base_changed_is_refused() -> None:
    base = embedder()
    one, other = pretrainer(base=base), pretrainer(base=base, name="other")
    one.fit(TEXTS, **SHORT)
    other.fit(TEXTS, **SHORT)
    with pytest.raises(CompositionError, match="'masked_characters' was trained on another base"):
        ComposedModel(base, [one.model, other.model])
    one.fit(TEXTS, **SHORT)
    with pytest.raises(CompositionError, match="'other' was trained on another base"):
        ComposedModel(base, [one.model, other.model])


def test_an_independent_component_leaves_the_embedder_as_it_is() -> None:
    base = embedder()
    before = base.digest
    one = pretrainer("causal", base, train_base=False, independent=True)
    one.fit(TEXTS, **SHORT)
    assert base.digest == before and all(parameter.requires_grad for parameter in base.parameters())
    assert one.model.card.base_digest is None
    ComposedModel(base, [one.model])


def test_fitting_again_goes_on_and_leaves_what_was_fitted_before() -> None:
    one = pretrainer()
    first_curve = one.fit(TEXTS, **SHORT | {"steps": 40})
    first, before = one.model, one.model.digest
    curve = one.fit(TEXTS, **SHORT | {"steps": 40})
    name = f"held_out_{one.objective.selection_metric}"
    assert curve[0][name] == pytest.approx(first_curve[-1][name], rel=0.1)  # masks differ
    assert curve[-1][name] < first_curve[-1][name]
    assert one.model is not first and first.digest == before != one.model.digest
    assert one.model.card.origin == first.card.origin


def test_a_call_that_fails_changes_nothing() -> None:
    one = pretrainer()
    one.fit(TEXTS, **SHORT)
    before = (one.model, one.model.digest, one.embedder.digest)
    with pytest.raises(TrainingError, match="must be finite"):
        one.fit(TEXTS, **SHORT, learning_rate=1e12, precision="fp32", gradient_clip=1e12, warmup_steps=0)
    assert before == (one.model, one.model.digest, one.embedder.digest)


def test_words_are_found_in_what_is_trained_on_and_stay() -> None:
    one = pretrainer("words")
    one.fit(TEXTS, **SHORT)
    held_out = list(divide(TEXTS, None, None, 0.1).held_out())
    assert isinstance(one.objective, MaskedWords)
    names = one.objective.targets.names
    one.fit([*held_out, "other words, other words", "and more"], **SHORT)
    assert isinstance(one.objective, MaskedWords) and one.objective.targets.names == names
    few = pretrainer("words", words=TargetsConfig(max_targets=3))
    few.fit(TEXTS, **SHORT)
    configured = embedder()
    configured.preprocessor = Preprocessor(VocabularyConfig(words=TargetsConfig(max_targets=3))).fit(TEXTS)
    same = pretrainer("words", configured)
    same.fit(TEXTS, **SHORT)
    for some in (few.objective, same.objective):
        assert isinstance(some, MaskedWords) and some.targets.num_targets == 3


def test_epochs_are_as_many_steps_as_read_all_texts() -> None:
    size = sum(len(text) + 1 for text in divide(TEXTS, None, None, 0.1).training())
    windows = math.ceil((size + 31) / 32)
    one = pretrainer()
    curve = one.fit(TEXTS, epochs=2, batch_size=16, window=32)
    assert curve[-1]["step"] == 2 * math.ceil(windows / 16)


def test_texts_of_any_length_in_characters_never_seen(face: str) -> None:
    base = embedder(causal=face == "causal", texts=["abc"])
    one = pretrainer(face, base, **{"words": TargetsConfig(min_count=1)} if face == "words" else {})
    texts = ["", "a", "Ἐν ἀρχῇ", "🚀", "", "x" * 500]
    curve = one.fit(texts, validation=["", "Ἐν ὁ λόγος", "🚀🚀"], **SHORT)
    assert all(math.isfinite(value) for value in curve[-1].values())


CHILD = """
import sys, torch
torch.set_num_threads(1)
from tests.pretraining.test_pretrainer import TEXTS, LONG, pretrainer
pretrainer().fit(TEXTS, checkpoints=sys.argv[1], **LONG)
"""
LONG = SHORT | {"steps": 60, "checkpoint_every": 5, "evaluate_every": 20}


def kill_midway(checkpoints: Path) -> None:
    """Fits in another process and kills it once two checkpoints are there."""
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(checkpoints)], cwd=root)
    while child.poll() is None and len(list(checkpoints.rglob("step-*"))) < 2:
        time.sleep(0.001)
    assert child.poll() is None, "the training must be killed before its end"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_a_call_that_was_killed_goes_on_to_the_same_bits_and_is_not_repeated(tmp_path: Path) -> None:
    whole = pretrainer()
    curve = whole.fit(TEXTS, **LONG)
    kill_midway(tmp_path)
    resumed = pretrainer()
    assert resumed.fit(TEXTS, checkpoints=tmp_path, **LONG) == curve
    assert resumed.model.digest == whole.model.digest and resumed.embedder.digest == whole.embedder.digest
    (left,) = tmp_path.rglob("step-*")
    written = left.stat().st_mtime_ns
    again = pretrainer()
    assert again.fit(TEXTS, checkpoints=tmp_path, **LONG) == curve
    assert again.model.digest == whole.model.digest and again.embedder.digest == whole.embedder.digest
    assert left.stat().st_mtime_ns == written
    assert pretrainer(seed=2).fit(TEXTS, checkpoints=tmp_path, **LONG) != curve


def test_what_is_saved_is_a_published_component(tmp_path: Path) -> None:
    one = pretrainer()
    curve = one.fit(TEXTS, **SHORT)
    one.save(tmp_path / "part")
    verify(tmp_path / "part", "component")
    assert load_component(tmp_path / "part").digest == one.model.digest
    names = {path.name for path in (tmp_path / "part").iterdir()}
    assert names >= {"head.safetensors", "curve.csv", "metrics.json", "card.json"}
    assert (tmp_path / "part" / "curve.csv").read_text().count("\n") == 1 + len(curve)


def test_any_objective_that_needs_text_alone_can_be_trained() -> None:
    one = Pretrainer(embedder().freeze(), CharactersConfig(), encoder=ENCODER)
    curve = one.fit(TEXTS, **SHORT | {"steps": 60})
    assert curve[-1]["held_out_bits_per_byte"] < 0.9 * curve[0]["held_out_bits_per_byte"]


def test_a_bar_is_drawn_when_it_is_asked_for_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    one = pretrainer()
    one.fit(TEXTS, **SHORT)
    assert capsys.readouterr() == ("", "")
    one.fit(TEXTS, **SHORT, progress=True)
    assert "masked_characters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "fit", "why"),
    [
        ({"train_base": False}, {"steps": 1}, "must be frozen to train a component over it"),
        ({}, {}, "either `epochs` or `steps`, got None and None"),
        ({}, {"steps": 1, "epochs": 1}, "either `epochs` or `steps`, got 1 and 1"),
        ({}, {"epochs": 0}, "`epochs` must be above 0, got 0"),
        ({}, {"steps": -1}, "steps: Input should be greater than or equal to 0, got -1"),
        ({}, {"steps": 1, "bach_size": 4}, "bach_size is not a known key; did you mean 'batch_size'?"),
    ],
)
def test_what_cannot_be_fitted_is_refused(settings: dict[str, Any], fit: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        pretrainer(**settings).fit(TEXTS, **fit)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(DataError, match="at least two that differ"):
        pretrainer().fit(["only one"], steps=1)
    with pytest.raises(DataError, match="held-out texts hold no target of MaskedWords"):
        pretrainer("words").fit(TEXTS, validation=["...", "🚀"], steps=1)


def test_a_new_embedder_is_trained_by_the_first_pretrainer_and_read_by_the_next() -> None:
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
    assert explicit.embedder.digest == trained, "as with train_base=True"


def test_the_objective_of_a_pretrainer_is_checked() -> None:
    with pytest.raises(ConfigError, match="`task` is missing"):
        Pretrainer(embedder())
    with pytest.raises(ConfigError, match="`task` of a CharacterMaskPretrainer must be a MaskedCharactersConfig"):
        CharacterMaskPretrainer(embedder(), CharactersConfig())


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="`train_base` and `independent` cannot both be true"):
        pretrainer(independent=True)
    with pytest.raises(ConfigError, match=r"`name` must consist of letters, digits, _ and -, got 'a/b'"):
        pretrainer(name="a/b")
    with pytest.raises(CompositionError, match="cannot build a causal component on a bidirectional base"):
        CausalLanguagePretrainer(embedder(), train_base=True)
    with pytest.raises(ConfigError, match="predicts later characters and needs a causal encoder"):
        CausalLanguagePretrainer(embedder(causal=True), encoder=ENCODER, train_base=True).fit(TEXTS, steps=1)


def test_nothing_can_be_taken_before_it_was_fitted(tmp_path: Path) -> None:
    one = pretrainer()
    for take in (lambda: one.model, lambda: one.objective, lambda: one.save(tmp_path / "part")):
        with pytest.raises(TrainingError, match="'masked_characters' was not fitted yet"):
            take()


@pytest.mark.parametrize("train_base", [False, True])
def test_a_composition_is_an_embedder_to_train_over_or_together_with(train_base: bool, tmp_path: Path) -> None:
    base, first, second = embedder().freeze(), pretrainer(name="first"), pretrainer(name="second")
    for number, one in enumerate((first, second)):
        one.embedder, one.train_base = base, False
        one.fit(TEXTS[number::2], **SHORT)
    inner = ComposedModel(base, [first.model, second.model], "inner").freeze()
    before, at_first = inner.digest, base.digest
    top = pretrainer(base=inner, name="top", train_base=train_base)  # type: ignore[arg-type]
    curve = top.fit(TEXTS, **SHORT | {"steps": 40, "learning_rate": 5e-3})
    name = "held_out_bits_per_masked_character"
    assert curve[-1][name] < curve[0][name]
    assert (inner.digest != before) == train_base == (base.digest != at_first)
    assert top.model.card.base_digest == inner.digest
    high = ComposedModel(inner, [top.model], "high").eval()
    save(high, tmp_path)
    assert np.array_equal(load_composition(tmp_path).embed(["Viola"])[0], high.embed(["Viola"])[0])
