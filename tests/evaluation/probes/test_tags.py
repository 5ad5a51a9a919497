"""The tags probe: sampling characters, spans in characters, and selecting the bonus."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Entity
from cclm_core.evaluation.baselines.names import NameDictionary
from cclm_core.evaluation.held_out import SelectionNoise
from cclm_core.evaluation.linear_probe import LinearProbeConfig
from cclm_core.evaluation.probe import Context
from cclm_core.evaluation.probes.tags import Tagger, TagsProbeConfig, fit_tags, select_bonuses, span_metrics, tag_rows
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.spans import Scores, SpanScore, TextSpans, gold_spans, spans_of_texts
from cclm_core.evaluation.tag_parts import noised_copies
from cclm_core.evaluation.tag_sampling import Tagged, sample_rows, select_tagged, tagged_documents
from cclm_core.evaluation.views import Parts
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from tests.evaluation.fakes import FakeComposition, clean_set, encode, make_records

CONFIG = TagsProbeConfig(train_characters=20_000, rows=6_000)
TAGS = [np.array([0] * 40 + [1, 2, 2] + [0] * 57, dtype=np.uint8) for _ in range(50)]


def test_all_characters_near_an_entity_are_selected_and_the_sampled_others_represent_the_rest() -> None:
    rows = sample_rows(TAGS, 1000, 2, np.random.default_rng(0))
    for near, selected in zip(rows.near, rows.selected, strict=True):
        assert np.flatnonzero(near).tolist() == list(range(38, 45)) and selected[38:45].all()
    num_selected = sum(selected.sum() for selected in rows.selected)
    num_far = sum((selected & ~near).sum() for near, selected in zip(rows.near, rows.selected, strict=True))
    assert 900 < num_selected < 1100
    assert num_far * rows.far_weight == pytest.approx(50 * 93, rel=0.1)


def test_all_characters_are_selected_if_they_fit() -> None:
    rows = sample_rows(TAGS, 100_000, 3, np.random.default_rng(0))
    assert all(selected.all() for selected in rows.selected) and rows.far_weight == 1


def test_the_number_of_rows_is_bounded_if_everything_is_an_entity() -> None:
    rows = sample_rows([np.full(5000, 2, dtype=np.uint8)], 1000, 3, np.random.default_rng(0))
    assert sum(selected.sum() for selected in rows.selected) < 1200


def scores_for(preprocessor: Preprocessor, text: str, spans: TextSpans) -> Scores:
    """Tag scores (L, 3) with `spans`, in characters, as the best tags."""
    offsets = preprocessor.offsets(text)
    scores = np.full((len(offsets), 3), -9.0, dtype=np.float32)
    for position, character in enumerate(offsets):
        tag = 0
        for start, end, _ in spans:
            if start <= character < end:
                tag = 1 if character == start and (position == 0 or offsets[position - 1] != character) else 2
        scores[position, tag] = 0
    return scores


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Zoë met Éric 🎭", [(0, 3, "PERSON"), (8, 12, "PERSON")]),
        ("🎭", [(0, 1, "PERSON")]),
        ("John of Gaunt's", [(0, 13, "PERSON")]),
        ("", []),
    ],
)
def test_spans_are_in_characters_even_if_these_are_encoded_as_bytes(text: str, spans: TextSpans, cls: bool) -> None:
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), "Zomet ricJhnfGau's")
    scores = scores_for(preprocessor, text, spans)
    assert spans_of_texts([text], [scores], preprocessor, ["PERSON"], words=True) == [spans]
    assert gold_spans(preprocessor.encode(text), scores.argmax(axis=1), preprocessor, ["PERSON"]) == spans


def test_without_word_boundaries_spans_can_split_a_word() -> None:
    preprocessor = Preprocessor(alphabet="서울에")
    scores = [scores_for(preprocessor, "서울에", [(0, 2, "PLACE")])]
    assert spans_of_texts(["서울에"], scores, preprocessor, ["PLACE"], words=False) == [[(0, 2, "PLACE")]]
    assert spans_of_texts(["서울에"], scores, preprocessor, ["PLACE"], words=True) != [[(0, 2, "PLACE")]]


def test_scripts_without_spaces_need_no_setting() -> None:
    preprocessor = Preprocessor(alphabet="東京都")
    scores = [scores_for(preprocessor, "東京都", [(0, 2, "PLACE")])]
    assert spans_of_texts(["東京都"], scores, preprocessor, ["PLACE"], words=True) == [[(0, 2, "PLACE")]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus"), make_records())


def test_the_fit_does_not_depend_on_the_batch_size(corpus: EncodedCorpus) -> None:
    tagged = tagged_documents(corpus.split("train"), corpus.split("train").documents.iloc[:60])
    probes = [
        fit_tags(tag_rows(Reader(FakeComposition(corpus.preprocessor), size, 1000), tagged, CONFIG, 1), 1, CONFIG, 1)
        for size in (1, 10_000)
    ]
    np.testing.assert_allclose(probes[0].weight, probes[1].weight, atol=1e-3)


def test_a_text_with_weight_three_counts_like_three_copies(corpus: EncodedCorpus) -> None:
    first, second = (tagged_documents(corpus.split("train"), corpus.split("train").documents.iloc[[n]]) for n in (0, 1))
    copies = Tagged(first.texts * 3 + second.texts, first.tags * 3 + second.tags, [1.0] * 4)
    weighted = Tagged(first.texts + second.texts, first.tags + second.tags, [3.0, 1.0])
    config = CONFIG.model_copy(update={"linear_probe": LinearProbeConfig(steps=60, batch_rows=10_000)})
    reader = Reader(FakeComposition(corpus.preprocessor), 1000, 1000)
    biases = [fit_tags(tag_rows(reader, tagged, config, 1), 1, config, 1).bias for tagged in (copies, weighted)]
    np.testing.assert_allclose(biases[0], biases[1], atol=0.02)


def test_documents_with_entities_are_preferred_and_weights_correct_for_it(tmp_path: Path) -> None:
    records = make_records()
    mostly_plain = [dataclasses.replace(r, entities=()) if n % 10 else r for n, r in enumerate(records)]
    split = encode(tmp_path, mostly_plain).split("train")
    tagged = select_tagged(split, split.documents, 2000, 0.75)
    lengths = np.array([len(text) for text in tagged.texts])
    has_entities = np.array([text.any() for text in tagged.tags])
    assert has_entities.mean() > 0.5 and 1800 < lengths.sum() < 2400
    total = (lengths * np.array(tagged.weights)).sum()
    assert total == pytest.approx(split.documents["length"].sum())


def test_held_out_texts_select_the_bonus(corpus: EncodedCorpus) -> None:
    held_out = tagged_documents(corpus.split("validation"), corpus.split("validation").documents)
    train = tagged_documents(corpus.split("train"), corpus.split("train").documents)
    reader = Reader(FakeComposition(corpus.preprocessor), 5000, 1000)
    probe = fit_tags(tag_rows(reader, train, CONFIG, 1), 1, CONFIG, 1)
    shy = probe._replace(bias=probe.bias + torch.tensor([6.0, 0.0, 0.0]))
    bold = probe._replace(bias=probe.bias - torch.tensor([6.0, 0.0, 0.0]))
    taggers = select_bonuses(reader, [bold, shy], held_out, corpus, CONFIG)
    assert taggers[0][0].bonus == 0 and taggers[1][0].bonus >= 1
    assert all(value is not None and value > 0.5 for _, value in taggers)
    empty = Tagged([], [], [])
    assert select_bonuses(reader, [shy], empty, corpus, CONFIG) == [(Tagger(shy), None)]


@pytest.mark.parametrize(("particles", "inside"), [(("에서", "까지", "로"), True), (("", " 그", "."), False)])
def test_names_inside_words_turn_the_rule_about_words_off(
    tmp_path: Path, particles: tuple[str, ...], inside: bool
) -> None:
    records = []
    for number, record in enumerate(make_records()):
        name = ("서울", "부산", "대구")[number % 3]
        entity = Entity(3, 3 + len(name), "PLACE")
        records.append(dataclasses.replace(record, text=f"그는 {name}{particles[number % 3]} 갔다", entities=(entity,)))
    corpus = encode(tmp_path, records)
    test_set = clean_set(records)
    reader = Reader(FakeComposition(corpus.preprocessor), 5000, 1000)
    parts, baselines = Parts(reader.width), {"dictionary": NameDictionary()}
    context = Context(reader, corpus, [test_set], ("modern",), parts, baselines, 1)
    probe = CONFIG.build(context)
    hyperparameters = probe.fit()
    assert probe.config.word_boundaries is not inside
    assert ("tag_spans_inside_words" in hyperparameters) is inside
    encoded = [corpus.preprocessor.encode(text) for text in test_set.texts]
    scorer = probe.scorer(test_set, encoded)
    for piece in reader.pieces(encoded):
        scorer.add(piece)
    result = scorer.result()
    assert result.metrics["entity_f1"].value > 0.9
    assert result.baselines["dictionary"]["entity_f1"].value == 1.0


def test_entities_move_with_the_characters_of_noised_copies(corpus: EncodedCorpus) -> None:
    split, preprocessor = corpus.split("validation"), corpus.preprocessor
    tagged = tagged_documents(split, split.documents)
    copies = noised_copies(tagged, SelectionNoise(rates=(0.05, 0.3)), corpus, 1)
    names = []
    for level in (tagged, *copies):
        spans = [
            (preprocessor.decode(ids), gold_spans(ids, tags, preprocessor, corpus.entity_labels))
            for ids, tags in zip(level.texts, level.tags, strict=True)
        ]
        names.append([text[start:end] for text, own in spans for start, end, _ in own])
    clean, few, many = names
    assert set(clean) == {"Olivia"} and len(clean) == len(few) == 120
    assert 0.5 < np.mean([name == "Olivia" for name in few]) < 0.9 and "Olivia" not in many[:2]
    assert all(set("olivia") & set(name.lower()) for name in few)
    assert noised_copies(tagged, SelectionNoise(share=0), corpus, 1) == []


def test_span_metrics_agree_with_span_score() -> None:
    gold: list[TextSpans] = [[(0, 3, "A"), (5, 6, "B")], [], [(1, 2, "A")]]
    predicted: list[TextSpans] = [[(0, 3, "A"), (5, 6, "A")], [(0, 1, "A")], []]
    total = SpanScore()
    for document_gold, document_predicted in zip(gold, predicted, strict=True):
        total.add(document_gold, document_predicted)
    metrics = span_metrics(gold, predicted)
    assert {name.removeprefix("entity_"): metric.value for name, metric in metrics.items()} == total.metrics()
    counts: npt.NDArray[np.float64] = metrics["entity_f1"].statistics
    assert counts.tolist() == [[1, 2, 2], [0, 1, 0], [0, 0, 1]]
