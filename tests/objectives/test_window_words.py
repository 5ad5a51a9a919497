"""Words in windows equal those of the whole text, except words that an edge may have cut."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.window_words import window_words
from cclm_core.text.normalization import normalize
from cclm_core.text.vocabulary import CLS, END, Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import WordTargets, id_spans

TEXTS = ["the cat and the dog don't", "a naïve cat, the end"]
LETTERS = st.sampled_from("aeo '\u2019-_.é\u0301ﬁ½漢한😀\n")
SOME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd") | LETTERS, max_size=40)


def fitted(kind: Any = "words", texts: list[str] = TEXTS, **settings: Any) -> tuple[Preprocessor, WordTargets]:
    preprocessor = Preprocessor(VocabularyConfig(**settings)).fit(texts)
    return preprocessor, WordTargets.fit(texts, TargetsConfig(kind=kind, max_targets=90, min_count=1), preprocessor)


def batch(*rows: list[int]) -> WindowBatch:
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), lengths.max(initial=0)), dtype=np.int64)
    for row, content in zip(ids, rows, strict=True):
        row[: len(content)] = content
    return WindowBatch(ids, np.zeros_like(ids, dtype=np.uint8), lengths)


def words_in(windows: WindowBatch, preprocessor: Preprocessor, targets: WordTargets) -> list[tuple[str, str]]:
    """The name of each target, and the text at its positions."""
    words = window_words(windows, preprocessor, targets)
    flat, names = windows.ids.reshape(-1), targets.names
    texts = [preprocessor.decode(flat[start:end]) for start, end in zip(words.starts, words.ends, strict=True)]
    return [(names[target], text) for target, text in zip(words.targets, texts, strict=True)]


RARE = Preprocessor(alphabet="acdeghnotv. ")  # ï and both apostrophes become bytes
RARE_TARGETS = WordTargets.fit(TEXTS, TargetsConfig(min_count=1), RARE)


def words_of(text: str) -> list[tuple[str, str]]:
    """The words in a window with this text."""
    return words_in(batch(RARE.encode(text).tolist()), RARE, RARE_TARGETS)


def test_words_have_their_targets() -> None:
    assert words_of(" the cat, naïve Zoë.") == [("the",) * 2, ("cat",) * 2, ("naïve",) * 2, ("[OTHER]", "Zoë")]
    assert words_of("") == words_of(" ...") == []


@pytest.mark.parametrize("text", ["the", "'the", "the'", "the\u2019", "\u2019the", "naïve"])
def test_a_word_that_an_edge_may_have_cut_is_skipped(text: str) -> None:
    assert words_of(text) == []
    assert [word for word, _ in words_of(f"{text} dog {text}")] == ["dog"]


def test_a_character_cut_by_an_edge_belongs_to_the_adjacent_word() -> None:
    ids = RARE.encode(" naïve cat ").tolist()
    half = ids.index(RARE.encode("ï")[0]) + 1
    assert words_in(batch(ids[:half]), RARE, RARE_TARGETS) == []
    assert words_in(batch(ids[half:]), RARE, RARE_TARGETS) == [("cat",) * 2]
    assert words_in(batch([*ids, *ids[:half]]), RARE, RARE_TARGETS) == [("naïve",) * 2, ("cat",) * 2]


def test_words_end_at_document_marks_and_padding_is_ignored() -> None:
    preprocessor, targets = fitted()
    the, cat = (preprocessor.encode(word).tolist() for word in ("the", "cat"))
    windows = batch([END, CLS, *the, END, *cat, END], [*cat, END, *the, END], [], [END])
    assert words_in(windows, preprocessor, targets) == [("the",) * 2, ("cat",) * 2, ("the",) * 2]
    words = window_words(windows, preprocessor, targets)
    assert words.starts.tolist() == [2, 6, 14] and words.ends.tolist() == [5, 9, 17]
    assert words.rows.tolist() == [0, 0, 1]
    assert words.first.tolist() == [2, 6, 14] and words.last.tolist() == [4, 8, 16]


def test_pieces_refer_to_their_words() -> None:
    preprocessor, targets = fitted("bpe")
    words = window_words(batch(preprocessor.encode(" nat the dont ").tolist()), preprocessor, targets)
    pieces = [targets.names[target] for target in words.targets]
    for index, word in enumerate(("nat", "the", "dont")):
        assert "".join(piece for piece, of in zip(pieces, words.words, strict=True) if of == index) == word
    assert words.words.max() == 2 and len(pieces) > 3
    assert words.first.tolist() == [1, 5, 9] and words.last.tolist() == [3, 7, 12]


def test_twenty_thousand_words_have_their_own_targets() -> None:
    names = [f"w{number:x}" for number in range(19_999)]
    preprocessor = Preprocessor().fit(names)
    targets = WordTargets.fit(names, TargetsConfig(min_count=1), preprocessor)
    assert targets.num_targets == 20_000
    rows = [preprocessor.encode(" " + " ".join(names[k : k + 100]) + " ").tolist() for k in range(0, len(names), 100)]
    assert words_in(batch(*rows), preprocessor, targets) == [(name, name) for name in names]


@given(
    st.lists(SOME, min_size=1, max_size=4),
    st.sampled_from(["words", "bpe"]),
    st.sampled_from([None, "NFC", "NFKD"]),
    st.sampled_from([0, 3, 60]),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_the_words_of_windows_equal_those_of_the_text(
    texts: list[str], kind: str, form: Any, max_characters: int, first: int, length: int
) -> None:
    preprocessor, targets = fitted(kind, [*TEXTS, texts[0][::2]], normalisation=form, max_characters=max_characters)
    ids: list[int] = []
    words: list[list[tuple[int, int, int]]] = []  # target, start and end of each piece in the whole text
    for text in texts:
        normal = normalize(text, form)
        encoded = targets.encode(normal)
        spans = id_spans(encoded, preprocessor.offsets(normal)) + len(ids)
        for target, (start, end) in zip(encoded.ids.tolist(), spans.tolist(), strict=True):
            if not words or words[-1][-1][2] != start:
                words.append([])
            words[-1].append((target, start, end))
        ids += [*preprocessor.encode(normal).tolist(), END]
    bounds = [0, *range(min(first, length), len(ids), length), len(ids)]
    windows = batch(*(ids[start:end] for start, end in pairwise(bounds)))
    actual = window_words(windows, preprocessor, targets)

    def linked(between: list[int]) -> bool:
        """Whether a word separated from the edge by these ids may continue beyond it."""
        return END not in between and preprocessor.decode(between).strip("\ufffd") in ("", "'", "\u2019")

    expected = [
        (row, target, start - left, end - left)
        for row, (left, right) in enumerate(pairwise(bounds))
        for word in words
        if left <= word[0][1] and word[-1][2] <= right
        if not linked(ids[left : word[0][1]]) and not linked(ids[word[-1][2] : right])
        for target, start, end in word
    ]
    width = max(1, windows.ids.shape[1])
    assert expected == [
        (start // width, target, start % width, (end - 1) % width + 1)
        for target, start, end in zip(
            actual.targets.tolist(), actual.starts.tolist(), actual.ends.tolist(), strict=True
        )
    ]
    assert actual.rows[actual.words].tolist() == [row for row, *_ in expected]
