"""The target bytes of the objective `characters`."""

import numpy as np

from cclm_core.objectives.characters import ByteTable
from cclm_core.objectives.read_words import carry_forward
from cclm_core.text.vocabulary import Preprocessor

TEXT = "the sea-Fée, don't! a"


def test_the_first_and_last_bytes_of_each_word() -> None:
    preprocessor = Preprocessor().fit([TEXT])
    table = ByteTable(preprocessor)
    ids = preprocessor.encode(TEXT).astype(np.int64)[None]
    words = table.words(ids)
    assert words.num_words == 5
    edges = table.edges(ids, words, 4)
    ends = [(bytes(row[:4][row[:4] < 256].tolist()), bytes(row[4:][row[4:] < 256].tolist())) for row in edges]
    assert ends == [
        (b"the", b"eht"),
        (b"sea", b"aes"),
        ("Fée".encode(), "Fée".encode()[::-1]),
        (b"don'", b"t'no"),
        (b"a", b"a"),
    ]


def test_a_word_ends_at_the_end_of_its_row() -> None:
    preprocessor = Preprocessor().fit(["ab"])
    ids = preprocessor.encode("abab").astype(np.int64).reshape(2, 2)
    assert ByteTable(preprocessor).words(ids).word_ids.tolist() == [[0, 0], [1, 1]]


def test_an_inserted_character_belongs_to_the_previous_one() -> None:
    assert carry_forward(np.array([[3, -1, 4, -1, -1], [-1, 0, -1, 2, 3]])).tolist() == [
        [3, 3, 4, 4, 4],
        [-1, 0, 0, 2, 3],
    ]
