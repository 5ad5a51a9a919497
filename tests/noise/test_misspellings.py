"""Lists of misspellings: formats, rejected lines, and learning from pairs of words."""

from pathlib import Path

import pytest

from cclm_core.noise.misspellings import learn_spellings, read_misspellings, write_misspellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.errors import DataError

LISTS = Path(__file__).parents[3] / "shared" / "data" / "typos_lists"


def write_and_read(tmp_path: Path, name: str, content: str) -> tuple[dict[str, dict[str, int]], list[tuple[int, str]]]:
    (tmp_path / name).write_text(content, encoding="utf-8")
    result = read_misspellings(tmp_path / name)
    return result.spellings, result.rejected


def test_formats(tmp_path: Path) -> None:
    expected = {"access": {"acess": 1}, "the": {"hte": 1, "teh": 1}}
    assert write_and_read(tmp_path, "a.txt", "acess->access\nteh->the\nhte->the,\n\n# a comment\n") == (expected, [])
    assert write_and_read(tmp_path, "b.dat", "access acess\nThe Teh hte\n") == (expected, [])
    assert write_and_read(tmp_path, "c.txt", "access: acess*4\nthe: teh, hte*2\n") == (
        {"access": {"acess": 4}, "the": {"hte": 2, "teh": 1}},
        [],
    )
    assert write_and_read(tmp_path, "d.csv", "word,misspelling\naccess,acess\nthe,teh\nthe,hte\n") == (expected, [])
    assert write_and_read(tmp_path, "e.tsv", "count\tmisspelling\tword\n3\tteh\tthe\n") == ({"the": {"teh": 3}}, [])


def test_rejected_lines_have_a_number_and_a_reason(tmp_path: Path) -> None:
    content = "aboutit->about it\n2st->2nd\nteh->the\nthe->the\ndont->don't\n"
    spellings, rejected = write_and_read(tmp_path, "a.txt", content)
    assert spellings == {"the": {"teh": 1}, "don't": {"dont": 1}}
    assert rejected == [
        (1, "'about it' is not one word of letters"),
        (2, "'2nd' is not one word of letters"),
        (4, "'the' is its own misspelling"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "at least one word, found none"),
        ("a.txt", b"about it\n", None),
        ("a.txt", b"x1->y1\n", "found none; line 1: 'y1' is not one word"),
        ("a.csv", b"word,misspelling\nx1,y\n", "found none; line 2: 'x1' is not one word"),
        ("a.csv", b"right,wrong\na,b\n", "must contain the columns word and misspelling"),
        (
            "a.csv",
            b"word,misspelling,count\nthe,teh,-1\n",
            "line 2: count must be an integer from 1 to 1,000,000,000,000, got '-1'",
        ),
        ("a.csv", b"word,misspelling,count\nthe,teh,0\n", "line 2: count must be an integer from 1 to .*, got '0'"),
        ("a.csv", "word,misspelling,count\nthe,teh,\u0663\n".encode(), "line 2: count must be an integer"),
        ("a.csv", b"word,misspelling,count\nthe,teh," + b"9" * 5000, r"line 2: count must be .* got '9{40}…'"),
        (
            "a.csv",
            b"word,misspelling\nthe," + b"t" * 200_000 + b"\nhouse,huose\n",
            "line 2: not a valid row: field larger",
        ),
        ("a.csv", b'word,misspelling\nthe,"teh\nhouse,huose\n', "not a valid row: unexpected end of data"),
        ("a.csv", b"word,misspelling,word\nthe,teh,a\n", "the columns word and misspelling once"),
        ("a.csv", b"word,misspelling,count,count\nthe,teh,1,2\n", "the column count at most once"),
        ("a.txt", b"the: teh*0\n", "line 1: count must be an integer from 1 to .*, got '0'"),
        ("a.txt", b"a: b\nthe: teh*-3\n", "line 2: count must be an integer from 1 to .*, got '-3'"),
        ("a.txt", b"the: teh*" + b"9" * 5000, "line 1: count must be an integer"),
        ("a.txt", b"caf\xe9->x\n", "must be UTF-8, but byte 3 is not"),
    ],
)
def test_invalid_lists_are_refused(tmp_path: Path, name: str, content: bytes, message: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    if message is None:
        assert read_misspellings(tmp_path / name).spellings == {"about": {"it": 1}}
        return
    with pytest.raises(DataError, match=message):
        read_misspellings(tmp_path / name)


def test_short_and_empty_rows_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("count,word,misspelling\n\n3,the,teh\n,cat,cta\n1,dog\n")
    listed = read_misspellings(tmp_path / "list.csv")
    assert listed.spellings == {"the": {"teh": 3}, "cat": {"cta": 1}}
    assert listed.rejected == [(5, "'' is not one word of letters")]
    assert listed.warning(Path("list.csv")) == (
        "warning: list.csv: 1 of 3 entries are not used; line 5: '' is not one word of letters"
    )


@pytest.mark.parametrize("spellings", [{"a": {"b": 0}}, {"a": {}}, {"a": {"b": 1.5}}, {"a": {"": 1}}, {"": {"b": 1}}])
def test_invalid_misspellings_from_code_are_refused(spellings: dict[str, dict[str, int]]) -> None:
    with pytest.raises(DataError, match="must"):
        TextNoiser(NoiseRecipe(kinds=["misspelling"]), spellings)


def test_a_table_without_rows_is_an_empty_list(tmp_path: Path) -> None:
    write_misspellings(tmp_path / "list.csv", {})
    assert read_misspellings(tmp_path / "list.csv") == ({}, [])


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list of misspellings not found at"):
        read_misspellings(tmp_path / "none.txt")


def test_written_lists_can_be_read(tmp_path: Path) -> None:
    spellings = {"don't": {"dont": 7, "do'nt": 1}, "the": {"teh": 2}}
    write_misspellings(tmp_path / "list.csv", spellings)
    assert read_misspellings(tmp_path / "list.csv").spellings == {
        word: dict(sorted(counts.items())) for word, counts in spellings.items()
    }


def test_spellings_are_learned_from_frequent_pairs() -> None:
    pairs = [("love", "loue")] * 3 + [("Love", "Loue"), ("have", "haue"), ("the", "the"), ("to night", "tonight")]
    assert learn_spellings(pairs) == {"love": {"loue": 4}}
    assert learn_spellings(pairs, min_count=1) == {"have": {"haue": 1}, "love": {"loue": 4}}
    assert learn_spellings([]) == {}


@pytest.mark.skipif(not LISTS.is_dir(), reason="needs ../shared/data/typos_lists")
@pytest.mark.parametrize(
    ("name", "min_words"),
    [
        ("codespell_dictionary.txt", 17_000),
        ("wikipedia_dictionary.txt", 2_500),
        ("spell-errors_norvig.txt", 6_000),
        ("zeroe_en.natural", 1_500),
    ],
)
def test_published_lists(tmp_path: Path, name: str, min_words: int) -> None:
    target = tmp_path / f"{name}.txt"
    target.write_bytes((LISTS / name).read_bytes())
    result = read_misspellings(target)
    assert len(result.spellings) >= min_words
    assert len(result.rejected) < 0.2 * sum(map(len, result.spellings.values()))
