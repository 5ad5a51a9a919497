import numpy as np
import pytest

from cclm_core.evaluation.config import TagsProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.tags import choose_rows, fit_tags, spans_of_text
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
    found = spans_of_text(text, scores_for(preprocessor, text, spans), preprocessor, ["PERSON"], words=True)
    assert found == spans


def test_words_can_be_split_where_a_script_has_no_spaces():
    preprocessor = Preprocessor(alphabet="東京都")
    scores = scores_for(preprocessor, "東京都", [(0, 2, "PLACE")])
    assert spans_of_text("東京都", scores, preprocessor, ["PLACE"], words=False) == [(0, 2, "PLACE")]
    assert spans_of_text("東京都", scores, preprocessor, ["PLACE"], words=True) != [(0, 2, "PLACE")]


def test_the_fit_does_not_depend_on_how_texts_are_batched(tmp_path):
    corpus = encode(tmp_path, records())
    split = corpus.split("train")
    texts, tags = [split.ids[start : start + 90] for start in (0, 100, 350)], []
    tags = [split.tags[start : start + 90] for start in (0, 100, 350)]
    readouts = [
        fit_tags(Reader(Stand(corpus.preprocessor), size, 1000), texts, tags, 1, SMALL.tags, 1) for size in (1, 10_000)
    ]
    np.testing.assert_allclose(readouts[0].weight, readouts[1].weight, atol=1e-3)
