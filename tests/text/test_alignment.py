"""Corresponding words in two spellings of a text."""

from hypothesis import given
from hypothesis import strategies as st

from cclm_core.text.alignment import corresponding_words, grams, similar, spelling_key, unambiguous

MODERN = "I do love thee so that I will shortly send thy soul to heaven if heaven will take the present at our hands"
FOLIO = "I doe loue thee so that I will shortly send thy Soule to Heauen If Heauen will take the present at our hands"


def test_other_spellings_are_found() -> None:
    pairs = list(corresponding_words(MODERN.split(), FOLIO.split(), spelling_key))
    assert {("love", "loue"), ("soul", "Soule"), ("heaven", "Heauen")} <= set(pairs)
    assert all(spelling_key(word)[:1] == spelling_key(spelling)[:1] for word, spelling in pairs)
    assert len(pairs) <= len(MODERN.split())


def test_a_word_whose_key_differs_is_found_between_others() -> None:
    modern = ["one", "two", "three", "four", "murder", "five", "six", "seven", "eight"]
    folio = ["one", "two", "three", "four", "murther", "five", "six", "seven", "eight"]
    assert ("murder", "murther") in list(corresponding_words(modern, folio, spelling_key))
    other = ["one", "two", "three", "four", "banana", "five", "six", "seven", "eight"]
    assert "banana" not in {spelling for _, spelling in corresponding_words(modern, other, spelling_key)}


def test_what_one_version_lacks_pairs_with_nothing() -> None:
    modern = ["a", "b", "c", "d", "lost", "words", "e", "f", "g", "h", "i"]
    folio = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
    pairs = list(corresponding_words(modern, folio, str))
    assert all(word == spelling for word, spelling in pairs)
    assert {word for word, _ in pairs} == set("abcdefghi")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_any_two_texts(words: list[str], spellings: list[str]) -> None:
    pairs = list(corresponding_words(words, spellings, str))
    assert len(pairs) <= min(len(words), len(spellings))
    assert all(word == spelling for word, spelling in corresponding_words(words, words, str))


def test_passages_that_changed_places_are_paired_once() -> None:
    modern = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
    folio = ["i", "j", "k", "l", "e", "f", "g", "h", "a", "b", "c", "d"]
    pairs = list(corresponding_words(modern, folio, str))
    assert pairs and all(word == spelling for word, spelling in pairs)


def test_grams_are_all_sequences_of_four() -> None:
    assert list(grams("abcdef")) == [tuple("abcd"), tuple("bcde"), tuple("cdef")]
    assert list(grams("abc")) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2))))
def test_a_key_is_unambiguous_if_all_its_values_are_equal(pairs: list[tuple[str, int]]) -> None:
    values = {key: {value for other, value in pairs if other == key} for key, _ in pairs}
    assert unambiguous(pairs) == {key: min(numbers) for key, numbers in values.items() if len(numbers) == 1}


def test_similar_words_share_half_of_their_characters() -> None:
    assert similar("murder", "murther") and similar("ab", "ac") and not similar("abc", "axy")
