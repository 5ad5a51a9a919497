import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cclm_core.evaluation.config import ReadoutConfig, TagsProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import choose_tagged, tagged_documents
from cclm_core.evaluation.tags import (
    Tagged,
    TagReadout,
    choose_bonuses,
    choose_rows,
    fit_tags,
    gold_spans,
    spans_of_texts,
    tag_rows,
)
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from tests.evaluation.stand_ins import SMALL, Stand, encode, records

TAGS = [np.array([0] * 40 + [1, 2, 2] + [0] * 57, dtype=np.uint8) for _ in range(50)]


def test_every_character_near_an_entity_is_chosen_and_the_others_stand_for_all_of_them():
    rows = choose_rows(TAGS, TagsProbe(rows=1000, margin=2), np.random.default_rng(0))
    for near, chosen in zip(rows.near, rows.chosen, strict=True):
        assert np.flatnonzero(near).tolist() == list(range(38, 45)) and chosen[38:45].all()
    num_chosen = sum(chosen.sum() for chosen in rows.chosen)
    far = sum((chosen & ~near).sum() for near, chosen in zip(rows.near, rows.chosen, strict=True))
    assert 900 < num_chosen < 1100
    assert far * rows.far_weight == pytest.approx(50 * 93, rel=0.1)


def test_all_rows_are_chosen_where_there_is_room():
    rows = choose_rows(TAGS, TagsProbe(rows=100_000), np.random.default_rng(0))
    assert all(chosen.all() for chosen in rows.chosen) and rows.far_weight == 1


def test_storage_is_bounded_where_everything_is_an_entity():
    rows = choose_rows([np.full(5000, 2, dtype=np.uint8)], TagsProbe(rows=1000), np.random.default_rng(0))
    assert sum(chosen.sum() for chosen in rows.chosen) < 1200


def scores_for(preprocessor, text, spans):
    """Scores that are certain of `spans`, given in characters."""
    offsets = preprocessor.offsets(text)
    scores = np.full((len(offsets), 3), -9.0, dtype=np.float32)
    for place, character in enumerate(offsets):
        tag = 0
        for start, end, _ in spans:
            if start <= character < end:
                tag = 1 if character == start and (place == 0 or offsets[place - 1] != character) else 2
        scores[place, tag] = 0
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
def test_spans_are_in_characters_also_where_characters_became_bytes(text, spans, cls):
    preprocessor = Preprocessor(VocabularyConfig(cls=cls), "Zomet ricJhnfGau's")
    scores = scores_for(preprocessor, text, spans)
    assert spans_of_texts([text], [scores], preprocessor, ["PERSON"], words=True) == [spans]
    assert gold_spans(preprocessor.encode(text), scores.argmax(axis=1), preprocessor, ["PERSON"]) == spans


def test_words_can_be_split_where_a_script_has_no_spaces():
    preprocessor = Preprocessor(alphabet="東京都")
    scores = [scores_for(preprocessor, "東京都", [(0, 2, "PLACE")])]
    assert spans_of_texts(["東京都"], scores, preprocessor, ["PLACE"], words=False) == [[(0, 2, "PLACE")]]
    assert spans_of_texts(["東京都"], scores, preprocessor, ["PLACE"], words=True) != [[(0, 2, "PLACE")]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("corpus"), records())


def test_the_fit_does_not_depend_on_how_texts_are_batched(corpus):
    tagged = tagged_documents(corpus.split("train"), corpus.split("train").documents.iloc[:60])
    readouts = [
        fit_tags(tag_rows(Reader(Stand(corpus.preprocessor), size, 1000), tagged, SMALL.tags, 1), 1, SMALL.tags, 1)
        for size in (1, 10_000)
    ]
    np.testing.assert_allclose(readouts[0].weight, readouts[1].weight, atol=1e-3)


def test_a_text_that_stands_for_three_counts_as_much_as_three(corpus):
    one, other = (tagged_documents(corpus.split("train"), corpus.split("train").documents.iloc[[n]]) for n in (0, 1))
    three = Tagged(one.texts * 3 + other.texts, one.tags * 3 + other.tags, [1.0] * 4)
    weighted = Tagged(one.texts + other.texts, one.tags + other.tags, [3.0, 1.0])
    config = SMALL.tags.model_copy(update={"readout": ReadoutConfig(steps=60, batch_rows=10_000)})
    reader = Reader(Stand(corpus.preprocessor), 1000, 1000)
    biases = [fit_tags(tag_rows(reader, tagged, config, 1), 1, config, 1).bias for tagged in (three, weighted)]
    np.testing.assert_allclose(biases[0], biases[1], atol=0.02)


def test_documents_with_entities_are_sought_out_and_the_weights_put_it_right():
    some = records()
    plain = [dataclasses.replace(r, entities=()) if n % 10 else r for n, r in enumerate(some)]
    with tempfile.TemporaryDirectory() as folder:
        split = encode(Path(folder), plain).split("train")
        tagged = choose_tagged(split, split.documents, 2000, 0.75)
        lengths = np.array([len(text) for text in tagged.texts])
        found = np.array([text.any() for text in tagged.tags])
        assert found.mean() > 0.5 and 1800 < lengths.sum() < 2400
        total = (lengths * np.array(tagged.weights)).sum()
        assert total == pytest.approx(split.documents["length"].sum())


def test_held_out_texts_choose_the_bonus_that_finds_what_is_rare(corpus):
    held_out = tagged_documents(corpus.split("validation"), corpus.split("validation").documents)
    train = tagged_documents(corpus.split("train"), corpus.split("train").documents)
    reader, labels = Reader(Stand(corpus.preprocessor), 5000, 1000), ["PERSON"]
    readout = fit_tags(tag_rows(reader, train, SMALL.tags, 1), 1, SMALL.tags, 1)
    shy = readout._replace(bias=readout.bias + torch.tensor([6.0, 0.0, 0.0]))
    bold = readout._replace(bias=readout.bias - torch.tensor([6.0, 0.0, 0.0]))
    chosen = choose_bonuses(reader, [bold, shy], held_out, corpus.preprocessor, labels, SMALL.tags)
    assert chosen[0].bonus == 0 and chosen[1].bonus >= 1
    nothing = Tagged([], [], [])
    assert choose_bonuses(reader, [shy], nothing, corpus.preprocessor, labels, SMALL.tags) == [TagReadout(shy)]
