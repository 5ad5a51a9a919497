"""Text generation: continues learned sentences, yields only whole characters, and is reproducible."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from cclm_core.applications.generation import Sampling, allowed_ids, generate, next_probabilities, utf8_length
from cclm_core.applications.language_model import LanguageModel, Scores
from cclm_core.cli.app import app
from cclm_core.composition import Component, ComponentCard, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.encoders import HourglassConfig
from cclm_core.encoders.embedder import Embedder
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.next_characters import NextCharactersConfig
from cclm_core.runtime.artifacts import publishing
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, FIRST_BYTE, NUM_SPECIAL, Preprocessor
from tests.applications.published import publish_component
from tests.composition.nests import over
from tests.corpora import NAMES, THINGS, VERBS, encode, records
from tests.encoders.shapes import CAUSAL, SMALL, embedder

SENTENCES = {f"{name} {verb} {thing}." for name in NAMES for verb in VERBS for thing in THINGS}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bidirectional base, an independent causal component trained on `SENTENCES`, and a component for entities."""
    folder = tmp_path_factory.mktemp("published")
    corpus: EncodedCorpus = encode(folder / "encoded", records(200))
    causal = HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48, causal=True)
    with seeded_initialization(3):
        base = Embedder(corpus.preprocessor, embedder(SMALL).config)
        part = Component(ComponentCard.over(base, "next", "next_characters", causal, independent=True))
        context = ObjectiveContext(width=part.width, preprocessor=corpus.preprocessor)
        objective = NextCharactersConfig(num_ahead=2).build(context)
    encoder, windows = OverBase(base, part), Windows(corpus.split("train"), 64)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=5e-3)
    for step in range(250):
        example = objective.example(windows.batch(step, 8, seed=1), derive(step), training=True)
        loss, _ = objective.loss(encoder(example.ids), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with publishing(folder / "base", "embedder") as target:
        save(base, target)
    publish_component(folder / "next", part, objective, window=64)
    with publishing(folder / "other", "component") as target:
        save(Component(ComponentCard.over(base, "other", "entities", SMALL)), target)
    return folder


@pytest.fixture(scope="module")
def model(published: Path) -> LanguageModel:
    return LanguageModel.load(published / "next", published / "base")


def test_continuations_are_training_sentences_and_stop_at_the_end(model: LanguageModel) -> None:
    for prompt in ("Viola ", "Orsino loves", "Fe"):
        text = prompt + "".join(generate(model, prompt, Sampling(temperature=0)))
        assert text in SENTENCES
    assert {"".join(generate(model, "", Sampling(seed=seed, temperature=0.2))) for seed in range(5)} < SENTENCES
    samples = {"".join(generate(model, "Olivia ", Sampling(temperature=1, seed=seed))) for seed in range(8)}
    assert len(samples) > 1


def test_same_seed_gives_the_same_text_of_limited_length(model: LanguageModel) -> None:
    sampling = Sampling(temperature=3, max_characters=30, seed=5)
    first, second = ([*generate(model, "A", sampling)] for _ in range(2))
    assert first == second and all(len(character) == 1 for character in first) and len(first) <= 30
    assert first != [*generate(model, "A", sampling.model_copy(update={"seed": 6}))]
    assert [*generate(model, "A", Sampling(max_characters=0))] == []


def test_training_sentences_have_few_bits_and_a_wrong_letter_has_many(model: LanguageModel) -> None:
    assert model.context == 64
    assert model.bits_per_character(sorted(SENTENCES)) < 0.6
    bits = model.bits(["Viola loves the sxa."])[0]
    assert bits.argmax() == 17 and bits[17] > 5


class Zeros(nn.Module):
    """An encoder that ignores its input: features (B, L, 1) of zeros."""

    def forward(self, ids: Tensor) -> Tensor:
        """Returns zeros (B, L, 1) for ids (B, L)."""
        return torch.zeros(*ids.shape, 1)


def test_random_samples_are_whole_characters() -> None:
    preprocessor = Preprocessor(alphabet="ab")
    model = LanguageModel(Zeros(), nn.Linear(1, preprocessor.num_ids), preprocessor, context=4)
    with torch.no_grad():
        model.head.get_parameter("bias").zero_()
        model.head.get_parameter("bias")[END] = -1e9
    sizes = set()
    for seed in range(5):
        text = "".join(generate(model, "a", Sampling(temperature=1, max_characters=100, seed=seed)))
        assert len(text) == 100 and "\ufffd" not in text and text.encode().decode() == text
        sizes |= {len(character.encode()) for character in text}
    assert sizes == {1, 2, 3, 4}


@pytest.mark.parametrize("character", ["a", "é", "—", "\ud7ff", "\ue000", "\uffff", "\U00010000", "😀", "\U0010ffff"])
def test_all_bytes_of_a_character_are_allowed(character: str) -> None:
    encoded = character.encode()
    assert utf8_length(encoded[0]) == len(encoded)
    for index, byte in enumerate(encoded):
        assert allowed_ids(encoded[:index], 300)[FIRST_BYTE + byte]


def test_bytes_that_are_not_utf8_are_not_allowed() -> None:
    """Compares with Python's encoder: exactly the first two bytes of characters are allowed."""
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    prefixes = {character.encode()[:2] for character in characters}
    first_bytes = {prefix[:1] for prefix in prefixes}
    for first in range(256):
        assert allowed_ids(b"", 300)[FIRST_BYTE + first] == (bytes([first]) in first_bytes)
    for first in range(0xC2, 0xF5):
        allowed = allowed_ids(bytes([first]), 300)
        assert all(allowed[FIRST_BYTE + byte] == (bytes([first, byte]) in prefixes) for byte in range(256))
        assert not allowed[260:].any() and not allowed[:NUM_SPECIAL].any()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (Sampling(temperature=1, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1, top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=1, top_p=0.69), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1, top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(temperature=1, top_p=0.01), [0, 1, 0, 0]),
        (Sampling(temperature=1, top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_temperature_top_k_and_top_p(sampling: Sampling, expected: list[float]) -> None:
    scores: Scores = np.log([0.1, 0.4, 0.2, 0.3]) + 7
    np.testing.assert_allclose(next_probabilities(scores, sampling), expected, atol=1e-12)


def test_command_continues_a_prompt(published: Path, model: LanguageModel) -> None:
    options = ["--component", str(published / "next"), "--base", str(published / "base"), "--temperature", "0"]
    for prompt, stdin in (("Viola ", None), ("-", "Viola "), ("-", "Viola \n")):
        result = CliRunner().invoke(app, ["generate", prompt, *options], input=stdin, catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stdout == "Viola " + "".join(generate(model, "Viola ", Sampling(temperature=0))) + "\n"


def test_command_uses_consecutive_seeds(published: Path, model: LanguageModel) -> None:
    options = ["--component", str(published / "next"), "--base", str(published / "base"), "--times", "3", "--seed", "4"]
    texts = ["".join(generate(model, "", Sampling(seed=seed))) for seed in (4, 5, 6)]
    result = CliRunner().invoke(app, ["generate", *options], catch_exceptions=False)
    assert result.stdout == f"\n{'-' * 20}\n".join(texts) + "\n"
    result = CliRunner().invoke(app, ["generate", *options, "--json", "--max-characters", "9"], catch_exceptions=False)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    expected = [(text[:9], seed) for seed, text in enumerate(texts, start=4)]
    assert [(record["written"], record["seed"]) for record in records] == expected
    assert not any(record["ended"] for record in records)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"--temperature": "-1"}, ConfigError, "cclm generate: temperature must be greater than or equal to 0, got -1"),
        ({"--top-p": "0"}, ConfigError, "cclm generate: top_p"),
        ({"--component": "other"}, ArtifactError, "other was trained on entities"),
        ({"--component": "none"}, ArtifactError, "component not found: .*none does not exist"),
    ],
)
def test_command_refuses_invalid_options_and_components(
    published: Path, options: dict[str, str], error: type[CclmError], message: str
) -> None:
    values = {"--component": "next", "--base": "base", "prompt": "Viola"} | options
    for name in ("--component", "--base"):
        values[name] = str(published / values[name])
    words = [word for name, value in values.items() if name != "prompt" for word in (name, value)]
    with pytest.raises(error, match=message):
        CliRunner().invoke(app, ["generate", values["prompt"], *words], catch_exceptions=False)


def test_a_fork_and_a_component_over_a_composition_generate_the_same_text(tmp_path: Path) -> None:
    low = embedder(CAUSAL["causal-hourglass-4"])
    base = ComposedModel(low, [over(low, "low", CAUSAL["causal-attention"])])
    part = over(base, "next", CAUSAL["causal-convolution"])
    part.card = part.card.model_copy(update={"objective": "next_characters"})
    context = ObjectiveContext(width=part.width, preprocessor=base.preprocessor)
    objective = NextCharactersConfig().build(context)
    for kind, model in (("composition", base), ("embedder", low), ("component", part), ("component", part.fork(base))):
        name = "fork" if isinstance(model, Component) and model.card.is_fork else kind
        if isinstance(model, Component):
            publish_component(tmp_path / name, model, objective)
            continue
        with publishing(tmp_path / name, kind) as target:
            save(model, target)
    sampling = Sampling(max_characters=9, temperature=1)
    texts = [
        "".join(generate(LanguageModel.load(tmp_path / component, tmp_path / below), "ab", sampling))
        for component, below in (("component", "composition"), ("fork", "embedder"), ("fork", "composition"))
    ]
    assert len(set(texts)) == 1 and len(texts[0]) > 0
