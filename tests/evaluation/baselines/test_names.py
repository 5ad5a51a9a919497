"""The baseline for entity tags: lookup of names."""

from cclm_core.evaluation.baselines.names import NameDictionary


def fitted(*texts: tuple[str, ...]) -> NameDictionary:
    names = NameDictionary()
    names.fit(
        (text, [(text.index(name), text.index(name) + len(name), "PERSON") for name in entities])
        for text, *entities in texts
    )
    return names


def test_the_longest_name_wins() -> None:
    names = fitted(("John of Gaunt and John", "John of Gaunt"), ("John went", "John"), ("John came", "John"))
    assert names.find("Old John of Gaunt, John!") == [(4, 17, "PERSON"), (19, 23, "PERSON")]


def test_a_word_that_is_rarely_a_name_is_not_found() -> None:
    names = fitted(("Grace spoke", "Grace"), ("saying Grace",), ("Grace be with you",))
    assert names.find("Grace is here") == []


def test_only_whole_words_match() -> None:
    assert fitted(("Tom", "Tom")).find("Tomorrow Tom's") == [(9, 12, "PERSON")]


def test_without_training_texts_nothing_is_found() -> None:
    assert NameDictionary().find("Romeo") == []
