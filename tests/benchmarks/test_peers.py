"""The parts of the peers that need no library of theirs: linear models on vectors, tags, words."""

from typing import Any

import numpy as np


class Letters:
    """An encoder that counts letters."""

    megabytes = 1.0

    def texts(self, texts: list[str]) -> Any:
        """A vector per text."""
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)

    def words(self, texts: list[list[str]]) -> list[Any]:
        """A vector per word, for each text."""
        return [self.texts(words).reshape(len(words), 8) for words in texts]


def text(content: str, **fields: Any) -> dict[str, Any]:
    return {"text": content, "rate": "0", **fields}


def test_labels_and_log_probabilities_of_frozen_vectors() -> None:
    from task_peers_encoders import Encoded

    encoder = Letters()
    train = [text(letter * number, label=letter) for letter in "abc" for number in (1, 2, 3, 4)]
    for validation in ([], [text("aaaaa", label="a"), text("bbbbb", label="b")]):
        peer = Encoded(encoder, "classify", ["a", "b", "c", "z"], False)
        peer.fit(train, validation)
        rows = [text("aa"), text("ccc")]
        assert peer.predict(rows) == [{"label": "a"}, {"label": "c"}]
        scores = peer.scores({"test 0": rows})["test 0"]
        assert scores.shape == (2, 4) and scores.argmax(axis=1).tolist() == [0, 2]
        assert scores[0, 3] == -30, "a label without training text"
    assert peer.saved_seconds > 0, "vectors were kept, and their time counts again"


def test_numbers_of_pairs() -> None:
    from task_peers_encoders import Encoded

    pairs = [("aa", "aa", 5.0), ("aa", "bb", 0.0), ("cd", "cd", 5.0), ("cd", "ef", 0.0), ("ab", "ab", 5.0)] * 4
    train = [text(first, second=second, value=value) for first, second, value in pairs]
    peer = Encoded(Letters(), "regress", [], True)
    peer.fit(train, train[:5])
    high, low = (row["value"] for row in peer.predict([text("gh", second="gh"), text("gh", second="ab")]))
    assert high > low


def test_entities_of_given_words() -> None:
    from task_peers_encoders import Encoded, entities

    person = {"start": 0, "end": 2, "label": "PER"}
    train = [text("aa bb", words=[[0, 2], [3, 5]], entities=[person]), text("bb", words=[[0, 2]])] * 5
    peer = Encoded(Letters(), "tag", ["PER"], False)
    peer.fit(train, [])
    test = [text("bb aa", words=[[0, 2], [3, 5]]), text("")]
    assert peer.predict(test) == [{"entities": [{"start": 3, "end": 5, "label": "PER"}]}, {"entities": []}]
    assert entities([[0, 2], [3, 5], [6, 8]], ["I-A", "I-A", "I-B"]) == [
        {"start": 0, "end": 5, "label": "A"},
        {"start": 6, "end": 8, "label": "B"},
    ]


def test_fasttext_reads_words_and_marks_apart() -> None:
    from task_peers_trained import tokens

    assert tokens("What's\na CPU?") == "what ' s a cpu ?"
