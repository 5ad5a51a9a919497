"""The baselines for labels."""

from cclm_core.evaluation.baselines.ngrams import MajorityLabel, NgramLabels


def test_ngrams_distinguish_spellings() -> None:
    model = NgramLabels(max_features=1000)
    model.fit(["loue vpon", "haue vs", "love upon", "have us"] * 3, ["old", "old", "new", "new"] * 3)
    assert model.predict(["giue vp", "give up"]) == ["old", "new"]


def test_the_majority_label_is_the_first_in_alphabetical_order_in_a_tie() -> None:
    majority = MajorityLabel()
    majority.fit(["", "", ""], ["a", "b", "b"])
    assert majority.predict(["one", "two"]) == ["b", "b"]
    majority.fit(["", ""], ["b", "a"])
    assert majority.predict(["one"]) == ["a"]
