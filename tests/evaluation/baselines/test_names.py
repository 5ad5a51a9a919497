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


def test_names_in_text_without_spaces_are_found() -> None:
    chinese = [("我住在北京很好", "北京"), ("他去了上海吃饭", "上海"), ("王小明和李华", "王小明", "李华")]
    names = fitted(*chinese, ("ไปเชียงใหม่กัน", "เชียงใหม่"))
    assert names.find("王小明去上海") == [(0, 3, "PERSON"), (4, 6, "PERSON")]
    assert names.find("พรุ่งนี้เชียงใหม่") == [(8, 17, "PERSON")]
    assert names.find("北京人 Tom") == [(0, 2, "PERSON")]


def test_the_longest_name_wins_in_text_without_spaces() -> None:
    names = fitted(("北京大学很大", "北京大学"), ("去北京吃饭", "北京"), ("北京好", "北京"))
    assert names.find("在北京大学和北京") == [(1, 5, "PERSON"), (6, 8, "PERSON")]


def test_a_run_that_is_rarely_a_name_is_not_found_in_text_without_spaces() -> None:
    assert fitted(("高明来了", "高明"), ("这个主意很高明",), ("他的高明之处",)).find("高明不在") == []


def test_names_inside_words_are_found_if_training_has_them() -> None:
    korean = fitted(("서울에서 왔다", "서울"), ("부산까지 간다", "부산"))
    assert korean.find("부산에서 서울로") == [(0, 2, "PERSON"), (5, 7, "PERSON")]
    rare = fitted(("Tomorrow", "Tom"), *[("Ann went", "Ann")] * 100)
    assert rare.find("Annual Tomb, Ann") == [(13, 16, "PERSON")]
