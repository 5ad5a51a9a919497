"""The peers of the corrector, its figures, and the lists of misspellings."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

COUNTS = Counter({"receive": 50, "friend": 40, "friends": 20, "the": 500, "their": 90})


def test_edits_of_a_corrector_are_counted_against_those_of_a_person() -> None:
    from correcting_score import Score, line_scores, total
    from correcting_texts import Correction

    pairs = [Correction("Teh old freind saw it", "The old friend saw it"), Correction("all is well", "all is well")]
    answers = {"Teh old freind saw it": "The odd friend saw it", "all is well": "all is will"}
    scores = line_scores(pairs, answers.__getitem__)
    assert scores == [Score(right=2, wrong=1, introduced=1, expected=2), Score(0, 1, 1, 0)]
    score = total(scores)
    assert (score.precision, score.recall) == (0.5, 1.0)
    assert round(score.f, 6) == round(1.25 * 0.5 / (0.25 * 0.5 + 1), 6)


def test_the_difference_is_paired_and_has_an_interval() -> None:
    from correcting_score import Score, difference

    right, missed = Score(1, 0, 0, 1), Score(0, 0, 0, 1)
    ours = [[right] * 80 + [missed] * 20, [right] * 70 + [missed] * 30]
    gain, low, high = difference(ours, [right] * 50 + [missed] * 50)
    assert round(gain, 6) == round((1.25 * 0.8 / 1.05 + 1.25 * 0.7 / 0.95) / 2 - 1.25 * 0.5 / 0.75, 6)
    assert 0 < low < gain < high
    assert difference(ours[:1], ours[0]) == (0, 0, 0)


def test_a_library_selects_its_words_and_leaves_code_unchanged() -> None:
    import correcting_peers
    from correcting_texts import Correction

    class Exchange(correcting_peers.Library):
        """Corrects a word to the known word with the same letters."""

        name = "exchange"

        def own(self) -> Mapping[str, int]:
            return {"the": 5, "house": 5}

        def build(self, frequencies: Mapping[str, int], distance: int) -> Callable[[str], str | None]:
            known = {"".join(sorted(word)): word for word in frequencies}
            return lambda word: known.get("".join(sorted(word.lower()))) if distance else None

    peer = Exchange(COUNTS)
    pairs = [Correction("Freind of teh huose `teh` a/freind", "Friend of the house `teh` a/freind")]
    settings = peer.select(pairs)
    assert settings == {"known": "own and prose", "distance": 1, "min_length": 2, "min_share": 0}
    assert peer.correct(pairs[0].wrong, **settings) == pairs[0].right
    shipped = peer.select(pairs, known="own")
    assert peer.correct(pairs[0].wrong, **shipped) == "Freind of the house `teh` a/freind"
    assert peer.correct("Freind", **settings | {"min_share": 0.5}) == "Freind"


def test_the_dictionary_prefers_near_and_frequent_words() -> None:
    from correcting_peers import Dictionary

    settings = {"max_distance": 1, "min_length": 4, "min_count": 1}
    assert Dictionary(COUNTS).correct("Freinds recieve teh frien", **settings) == "Friends receive teh friend"
    assert Dictionary(COUNTS).correct("Freinds", **settings | {"min_count": 30}) == "Freinds"


def test_words_of_lists_exclude_the_misspellings_of_the_training(tmp_path: Path) -> None:
    from correcting_texts import Correction, listed

    folder = tmp_path / "typos_lists"
    folder.mkdir()
    (folder / "norvig_testset1.txt").write_text("tests1 = {'access': 'acess acces', 'account':\n'acount'}")
    (folder / "norvig_testset2.txt").write_text("tests2 = {'a lot': 'alot'}")
    (folder / "toefl_spell_annotations.tsv").write_text(
        "Filename\tOffsetSpan\tMisspelling\tType\tCorrection\n1\t2-9\tBeacuse\tM\tbecause\n"
    )
    lines = listed(tmp_path, {"access": {"acces": 1}}, 3, seed=1)
    assert set(lines[:3]) == {
        Correction("acess", "access"),
        Correction("acount", "account"),
        Correction("beacuse", "because"),
    }
    assert lines[3:] == [Correction(word, word) for word in ("access", "account", "because")]
