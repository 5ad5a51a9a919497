"""Corresponding words in two spellings of a text."""

from hypothesis import given
from hypothesis import strategies as st

from cclm_core.text.alignment import corresponding_words, grams, similar, spelling_key, unambiguous

MODERN = "I do love thee so that I will shortly send thy soul to heaven if heaven will take the present at our hands"
FOLIO = "I doe loue thee so that I will shortly send thy Soule to Heauen If Heauen will take the present at our hands"


def test_words_correspond_despite_different_spelling() -> None:
    pairs = list(corresponding_words(MODERN.split(), FOLIO.split(), spelling_key))
    assert {("love", "loue"), ("soul", "Soule"), ("heaven", "Heauen")} <= set(pairs)
    assert all(spelling_key(word)[:1] == spelling_key(spelling)[:1] for word, spelling in pairs)
    assert len(pairs) <= len(MODERN.split())


def test_similar_words_between_anchors_correspond_despite_different_keys() -> None:
    modern = ["one", "two", "three", "four", "murder", "five", "six", "seven", "eight"]
    folio = ["one", "two", "three", "four", "murther", "five", "six", "seven", "eight"]
    assert ("murder", "murther") in list(corresponding_words(modern, folio, spelling_key))
    unrelated = ["one", "two", "three", "four", "banana", "five", "six", "seven", "eight"]
    assert "banana" not in {spelling for _, spelling in corresponding_words(modern, unrelated, spelling_key)}


def test_words_missing_from_one_version_have_no_pair() -> None:
    modern = ["a", "b", "c", "d", "lost", "words", "e", "f", "g", "h", "i"]
    folio = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
    pairs = list(corresponding_words(modern, folio, str))
    assert all(word == spelling for word, spelling in pairs)
    assert {word for word, _ in pairs} == set("abcdefghi")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_each_word_has_at_most_one_pair_in_any_two_texts(words: list[str], spellings: list[str]) -> None:
    pairs = list(corresponding_words(words, spellings, str))
    assert len(pairs) <= min(len(words), len(spellings))
    assert all(word == spelling for word, spelling in corresponding_words(words, words, str))


def test_swapped_passages_are_paired_at_most_once() -> None:
    modern = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
    folio = ["i", "j", "k", "l", "e", "f", "g", "h", "a", "b", "c", "d"]
    pairs = list(corresponding_words(modern, folio, str))
    assert pairs and all(word == spelling for word, spelling in pairs)


def test_grams_are_all_sequences_of_four_keys() -> None:
    assert list(grams("abcdef")) == [tuple("abcd"), tuple("bcde"), tuple("cdef")]
    assert list(grams("abc")) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2))))
def test_a_key_is_unambiguous_if_all_its_values_are_equal(pairs: list[tuple[str, int]]) -> None:
    values = {key: {value for name, value in pairs if name == key} for key, _ in pairs}
    assert unambiguous(pairs) == {key: min(numbers) for key, numbers in values.items() if len(numbers) == 1}


def test_similar_words_share_half_of_their_characters() -> None:
    assert similar("murder", "murther") and similar("ab", "ac") and not similar("abc", "axy")
