"""Spelling correction: a small model removes more errors than it adds, and keeps what it must not change."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from cclm_core.applications.changes import Change, changes
from cclm_core.applications.corrector import Corrector, split_pieces
from cclm_core.applications.readings import KnownWords
from cclm_core.cli.app import app
from cclm_core.composition import Component, ComponentCard
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import noise_text
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.objectives.denoise import DenoiseConfig
from cclm_core.runtime.artifacts import publishing
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError, DataError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import END, TargetsConfig
from cclm_core.text.word_targets import FILE, WordTargets
from tests.applications.published import publish_component
from tests.corpora import encode, records

RECIPE = NoiseRecipe(rate=0.06)


@pytest.fixture(scope="module")
def corrector(tmp_path_factory: pytest.TempPathFactory) -> Corrector:
    """A base and a component trained together on `denoise`, for a few seconds."""
    corpus: EncodedCorpus = encode(tmp_path_factory.mktemp("corpus") / "encoded", records(400))
    with seeded_initialization(4):
        base = Embedder(
            corpus.preprocessor,
            EmbedderConfig(
                embedding=EmbeddingConfig(width=32, ngram_buckets=512),
                encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=64),
            ),
        )
        card = ComponentCard(
            name="denoise",
            objective="denoise",
            base_width=base.width,
            base_digest="",
            preprocessor_digest=corpus.preprocessor.digest,
            encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=64),
        )
        component = Component(card)
        context = ObjectiveContext(width=component.width, preprocessor=corpus.preprocessor)
        objective = DenoiseConfig(noise=RECIPE).build(context)
    windows = Windows(corpus.split("train"), 96)
    optimizer = torch.optim.AdamW([*base.parameters(), *component.parameters(), *objective.parameters()], lr=4e-3)
    space = int(corpus.preprocessor.encode(" ")[0])
    for step in range(250):
        batch = windows.batch(step, 16, seed=1)
        if step % 2:  # so that the model also reads texts of several sentences
            batch = batch._replace(ids=np.where(batch.ids == END, space, batch.ids))
        example = objective.example(batch, derive(0, step), training=True)
        loss, _ = objective.loss(component(base(example.ids), example.ids != 0), example)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    component.card = card.model_copy(update={"base_digest": base.digest})
    return Corrector(base, component.eval(), objective, window=96)


def denoise(corrector: Corrector) -> Objective:
    """The objective with the head of a corrector."""
    context = ObjectiveContext(width=corrector._encoder.component.width, preprocessor=corrector.preprocessor)
    objective = DenoiseConfig(noise=RECIPE).build(context)
    objective.edits = corrector._head
    return objective


def num_errors(text: str, original: str) -> int:
    return sum(max(change.end - change.start, len(change.replacement)) for change in changes(text, original))


def test_correction_removes_most_errors_and_keeps_correct_text(corrector: Corrector) -> None:
    sentences = [record.text for record in records(400) if record.split == "test"]
    noised = [noise_text(text, RECIPE, np.random.default_rng(number)).text for number, text in enumerate(sentences)]
    pairs = list(zip(noised, sentences, strict=True))
    before = sum(num_errors(wrong, right) for wrong, right in pairs)
    after = sum(num_errors(corrector.correct(wrong).text, right) for wrong, right in pairs)
    assert before > 50
    assert after < 0.5 * before
    untouched = sum(corrector.correct(text).text == text for text in sentences)
    assert untouched >= 0.9 * len(sentences)


def test_a_higher_min_confidence_makes_fewer_changes(corrector: Corrector) -> None:
    wrong = "Voila lovess teh sea. Orisno greets his rign. Fese follwos the captain."
    counts = [len(corrector.correct(wrong, min_confidence=level).changes) for level in (0.3, 0.6, 0.9, 1.0)]
    assert counts[0] >= counts[1] >= counts[2] >= counts[3] == 0
    assert counts[0] > 0


def test_alternatives_are_sorted_by_probability(corrector: Corrector) -> None:
    result = corrector.correct("Viola lovs the sea.", num_alternatives=5)
    assert len(result.alternatives) == 5
    readings = [text for text, _ in result.alternatives]
    assert len({*readings, result.text}) == 6
    odds = [value for _, value in result.alternatives]
    assert odds == sorted(odds, reverse=True) and odds[-1] > 0
    kept = corrector.correct("Viola lovs the sea.", num_alternatives=2, min_confidence=1)
    assert kept.text == "Viola lovs the sea." and kept.alternatives[0][1] > 1  # more likely than the text that was kept


def test_texts_of_any_length_and_alphabet(corrector: Corrector) -> None:
    assert corrector.correct("").text == ""
    assert corrector.correct("漢字😀").text.replace(" ", "") == "漢字😀"
    corrected = corrector.correct("Viola 漢 loves the sea 😀.").text
    assert "漢" in corrected and "😀" in corrected
    long = "Olivia remembers his ring. " * 60
    assert num_errors(corrector.correct(long).text, long) <= 0.02 * len(long)
    with pytest.raises(DataError, match=r"U\+D800"):
        corrector.correct("\ud800")


def test_a_long_line_is_corrected_as_its_parts_are(corrector: Corrector) -> None:
    wrong = "Viola lovess the sea. "
    corrected = corrector.correct(wrong * 400)
    assert corrected.text.count("Viola loves the sea. ") > 390  # at the edge of a window it can differ
    assert len(corrected.changes) > 390
    assert corrected.changes[7].start - corrected.changes[6].start == len(wrong)


@pytest.mark.parametrize("text", ["x" * 5000, "去北京玩" * 1500, " " * 5000, "a\n" * 3000, "ab " * 40 + "\u0301" * 999])
def test_pieces_are_short_and_make_up_the_text(text: str) -> None:
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 220
    assert len(pieces) <= len(text) / 2 + 1


def test_a_text_without_spaces_is_read_in_pieces(corrector: Corrector) -> None:
    text = "去北京玩" * 300
    result = corrector.correct(text, num_alternatives=2)
    assert "".join(character for character in result.text if character in "去北京玩") == text
    assert split_pieces("去北京玩的人很多吃饭 abc d") == ["去北京玩的人很多", "吃饭 ", "abc ", "d"]


def test_known_words_protect_what_no_edit_turns_into_a_word(corrector: Corrector) -> None:
    lines = [record.text for record in records(400)]
    corrector.words = KnownWords(Counter(word.strip(".,") for line in lines for word in line.split()))
    try:
        assert corrector.correct("Viola lovess the sea.").text == "Viola loves the sea."
        unusual = "Zxqvia loves VIOLA_X, teH 42nd vIolaa."
        assert corrector.correct(unusual).text == unusual
        readings = [text for text, _ in corrector.correct("Viola lovess the sea.", num_alternatives=3).alternatives]
        assert len({*readings, "Viola loves the sea."}) == 4
    finally:
        corrector.words = None


def test_training_saves_known_words_for_the_corrector(corrector: Corrector, tmp_path: Path) -> None:
    texts = ["the cat and the dog", "The end"]
    words = WordTargets.fit(texts, TargetsConfig(min_count=1), corrector.preprocessor).with_counts(texts)
    context = ObjectiveContext(width=8, preprocessor=corrector.preprocessor, words=words)
    DenoiseConfig(noise=RECIPE).build(context).save(tmp_path)
    known = KnownWords.of(WordTargets.load(tmp_path / FILE))
    assert known is not None and known.knows("the end.") and known.unknown("a cat") == 1
    assert known.log_probability("the") > known.log_probability("dog") == known.log_probability("END")
    assert KnownWords.of(None) is None
    pieces = WordTargets.fit(texts, TargetsConfig(kind="bpe", max_targets=200, min_count=1), corrector.preprocessor)
    assert KnownWords.of(pieces.with_counts(texts)) is None


def test_changes_have_positions_in_the_original() -> None:
    assert changes("teh cat", "the cats") == [Change(1, 1, "h"), Change(2, 3, ""), Change(7, 7, "s")]
    assert changes("same", "same") == []


def test_invalid_arguments_and_components_are_refused(corrector: Corrector) -> None:
    with pytest.raises(ConfigError, match="min_confidence must be between 0 and 1, got 2"):
        corrector.correct("a", min_confidence=2)
    with pytest.raises(ConfigError, match="num_alternatives must be at least 0, got -1"):
        corrector.correct("a", num_alternatives=-1)
    with pytest.raises(ConfigError, match="num_alternatives must be at most 100, got 101"):
        corrector.correct("a", num_alternatives=101)
    with pytest.raises(ConfigError, match="max_rounds must be at least 1, got 0"):
        corrector.correct("a", max_rounds=0)
    component = corrector._encoder.component
    base = corrector._encoder.base
    objective = denoise(corrector)
    tagger = Component(component.card.model_copy(update={"objective": "entities", "name": "tags"}))
    with pytest.raises(CompositionError, match="'tags' was trained on entities"):
        Corrector(base, tagger, objective, 96)
    other = Component(component.card.model_copy(update={"base_digest": "0" * 64}))
    with pytest.raises(CompositionError, match="000000000000"):
        Corrector(base, other, objective, 96)


def test_command(corrector: Corrector, tmp_path: Path) -> None:
    base, component = tmp_path / "base", tmp_path / "denoise"
    with publishing(base, "embedder") as folder:
        save(corrector._encoder.base, folder)
    publish_component(component, corrector._encoder.component, denoise(corrector), 96)
    arguments = ["correct", "Viola lovess the sea.", "--base", str(base), "--component", str(component)]
    plain = CliRunner().invoke(app, arguments)
    assert plain.stdout == corrector.correct("Viola lovess the sea.").text + "\n"
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--alternatives", "2"]).stdout)
    assert as_json["text"] == plain.stdout.strip() and len(as_json["alternatives"]) == 2
    assert all(set(one) == {"text", "odds"} for one in as_json["alternatives"])
    assert "  odds " in CliRunner().invoke(app, [*arguments, "--alternatives", "1"]).stdout
    lines = CliRunner().invoke(app, ["correct", "-", *arguments[2:]], input="Feste.\n\nOlivia.\n")
    assert lines.stdout.count("\n") == 3


def test_a_fork_and_a_component_over_a_composition_can_correct(corrector: Corrector, tmp_path: Path) -> None:
    base, component = corrector._encoder.base, corrector._encoder.component
    objective = denoise(corrector)
    wrong = "Voila lovess teh sea. Orisno greets his rign."
    other_base = Embedder(base.preprocessor, base.config)
    fork = Corrector(other_base, component.fork(base), objective, 96)
    assert fork.correct(wrong) == corrector.correct(wrong)
    composition = ComposedModel(base, [component])
    over = Component(component.card.model_copy(update={"base_digest": composition.digest}))
    with publishing(tmp_path / "composition", "composition") as folder:
        save(composition, folder)
    publish_component(tmp_path / "over", over, objective)
    assert isinstance(Corrector.load(tmp_path / "composition", tmp_path / "over").correct(wrong, 1).text, str)


def test_folders_without_the_configuration_or_head_of_the_training_are_refused(
    corrector: Corrector, tmp_path: Path
) -> None:
    with publishing(tmp_path / "base", "embedder") as folder:
        save(corrector._encoder.base, folder)
    component = corrector._encoder.component
    for name, head in (("none", False), ("other", True)):
        with publishing(tmp_path / name, "component") as folder:
            save(component, folder)
            if head:
                (folder / "card.json").write_text('{"configuration": {"task": {"objective": "denoise"}}}')
                save_file({"edits.here.weight": torch.zeros(1)}, folder / "head.safetensors")
    with pytest.raises(ArtifactError, match=r"configuration of the training not found in .*card\.json"):
        Corrector.load(tmp_path / "base", tmp_path / "none")
    with pytest.raises(ArtifactError, match=r"head\.safetensors"):
        Corrector.load(tmp_path / "base", tmp_path / "other")


def test_damaged_folders_are_refused(corrector: Corrector, tmp_path: Path) -> None:
    base, good = tmp_path / "base", tmp_path / "good"
    with publishing(base, "embedder") as folder:
        save(corrector._encoder.base, folder)
    publish_component(good, corrector._encoder.component, denoise(corrector), 96)
    head = (good / "head.safetensors").read_bytes()
    flipped = bytearray(head)
    flipped[-9] ^= 0x40
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for content in (bytes(flipped), pointer, b"", head[:100]):
        (good / "head.safetensors").write_bytes(content)
        with pytest.raises(DataError, match=r"head\.safetensors is altered"):
            Corrector.load(base, good)
    (good / "head.safetensors").unlink()
    with pytest.raises(DataError, match=r"head\.safetensors is missing"):
        Corrector.load(base, good)
    with pytest.raises(ArtifactError, match=r"component not found: .*nowhere does not exist"):
        Corrector.load(base, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ([1], "must contain a JSON object"),
        ({"configuration": 5}, "configuration of the training not found"),
        ({"configuration": {"task": {"objective": "denoise"}}, "noise": {"misspellings": [1]}}, "must map words"),
        ({"configuration": {"task": {"objective": "denoise"}}, "noise": 3}, "must map words"),
        ({"configuration": {"task": {"objective": "denoise"}, "training": {"window": 1}}}, r"training\.window"),
        ({"configuration": {"task": {"objective": "denoise"}, "training": {"window": "x"}}}, r"training\.window"),
    ],
)
def test_cards_of_another_shape_are_refused(corrector: Corrector, tmp_path: Path, card: object, message: str) -> None:
    with publishing(tmp_path / "base", "embedder") as folder:
        save(corrector._encoder.base, folder)
    with publishing(tmp_path / "part", "component") as folder:
        save(corrector._encoder.component, folder)
        denoise(corrector).save(folder)
        (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises((ArtifactError, ConfigError), match=message):
        Corrector.load(tmp_path / "base", tmp_path / "part")


def test_predictions_that_are_no_numbers_are_refused(corrector: Corrector) -> None:
    weight = corrector._head.behind.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        with pytest.raises(ArtifactError, match="numbers that are not finite"):
            corrector.correct("Viola.")
    finally:
        with torch.no_grad():
            weight.copy_(kept)
