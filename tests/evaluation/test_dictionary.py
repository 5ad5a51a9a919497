from cclm_core.evaluation.dictionary import NameDictionary


def taught(*texts):
    names = NameDictionary()
    for text, *entities in texts:
        names.learn(text, [(text.index(name), text.index(name) + len(name), "PERSON") for name in entities])
    return names


def test_the_longest_name_wins():
    names = taught(("John of Gaunt and John", "John of Gaunt"), ("John went", "John"), ("John came", "John"))
    assert names.find("Old John of Gaunt, John!") == [(4, 17, "PERSON"), (19, 23, "PERSON")]


def test_a_word_that_is_seldom_a_name_is_none():
    names = taught(("Grace spoke", "Grace"), ("say Grace",), ("Grace be with you",))
    assert names.find("Grace is here") == []


def test_names_are_whole_words():
    assert taught(("Tom", "Tom")).find("Tomorrow Tom's") == [(9, 12, "PERSON")]


def test_nothing_learnt_finds_nothing():
    assert NameDictionary().find("Romeo") == []
