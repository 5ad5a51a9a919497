"""Splits: given files, named groups, shares by group, and shares of every label."""

import json
from pathlib import Path
from typing import Any

import pytest

from cclm_core.runtime.errors import DataError
from tests.labeled.stages import Built, build, files, write

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Nine texts of ten have the label `often`."""
    return [
        {"text": f"text {number}", "label": "rare" if number % 10 == 0 else "often", "group": f"g{number % 40}"}
        for number in range(first, first + count)
    ]


def build_rows(content: list[dict[str, Any]], seed: int = 1, group: bool = False, **settings: Any) -> Built:
    write({"input/a.jsonl": "".join(json.dumps(row) + "\n" for row in content)})
    columns = {"label": "label"} | ({"group": "group"} if group else {})
    return build(seed=seed, task="classify", source=files("input/a.jsonl", columns=columns), **settings)


def sizes(built: Built) -> dict[str, dict[str, int]]:
    return {split: dict(counts["labels"]) for split, counts in built.metrics["splits"].items()}


def test_shares_are_the_same_for_every_label() -> None:
    built = build_rows(rows(1000), test={"share": 0.2}, validation={"share": 0.1})
    assert sizes(built) == {
        "train": {"often": 630, "rare": 70},
        "validation": {"often": 90, "rare": 10},
        "test": {"often": 180, "rare": 20},
    }


def test_validation_is_a_tenth_of_the_source_unless_given() -> None:
    built = build_rows(rows(1000), test={"share": 0.2})
    assert sum(sizes(built)["validation"].values()) == 100
    write({"input/test.jsonl": json.dumps({"text": "new", "label": "rare"})})
    built = build_rows(rows(1000), test={"paths": "input/test.jsonl"})
    assert built.texts("test") == ["new"]
    assert sizes(built)["validation"] == {"often": 90, "rare": 10}


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    split = {"test": {"share": 0.2}}
    first, again, other = (build_rows(rows(200), seed, **split).texts("test") for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(build_rows(rows(200)[::-1], 1, **split).texts("test")) == sorted(first)


def test_a_test_text_stays_one_when_texts_are_added() -> None:
    before, after = (build_rows(rows(count), test={"share": 0.2}) for count in (500, 550))
    test, train = set(before.texts("test")), set(before.texts("train"))
    assert len(test - set(after.texts("test"))) <= 2
    assert len(train & set(after.texts("test"))) <= 5


def test_equal_texts_stay_together() -> None:
    repeated = [row | {"text": f"text {number // 2}"} for number, row in enumerate(rows(400))]
    built = build_rows(repeated, test={"share": 0.2})
    assert built.metrics["leakage"] == {"train_in_test": 0, "train_in_validation": 0, "validation_in_test": 0}
    assert len(built.texts("test")) == 80


def test_many_rare_labels_together_get_their_share_and_none_is_in_test_alone() -> None:
    content = [{"text": f"text {number}", "label": f"label {number // 3}"} for number in range(900)]
    built = build_rows(content, test={"share": 0.1}, validation={"share": 0.1})
    assert 60 < len(built.texts("test")) < 120
    assert len(built.data.labels) == 300


def test_shares_hold_out_whole_groups() -> None:
    built = build_rows(rows(1000), group=True, test={"share": 0.2}, validation={"share": 0.1})
    groups = [{text.group for text in built.data.split(split)} for split in ("train", "validation", "test")]
    assert all(groups) and len(set.union(*groups)) == sum(map(len, groups)) == 40


def test_named_groups_are_held_out() -> None:
    built = build_rows(rows(1000), group=True, test={"groups": ["g1", "g11"]}, validation={"groups": "g20"})
    assert {text.group for text in built.data.split("test")} == {"g1", "g11"}
    assert {text.group for text in built.data.split("validation")} == {"g20"}
    with pytest.raises(DataError, match=r"labeled.x.test.groups: group 'g111' not found. Did you mean `g11`\?"):
        build_rows(rows(1000), group=True, test={"groups": ["g111"]})
    with pytest.raises(DataError, match=r"group 'g1' not found. No text has a group. Set source.columns.group"):
        build_rows(rows(1000), test={"groups": ["g1"]})


def test_numeric_targets_have_the_same_distribution_in_every_split() -> None:
    content = [{"text": f"text {number}", "value": number**2} for number in range(1000)]
    write({"input/a.jsonl": "".join(json.dumps(row) + "\n" for row in content)})
    source = files("input/a.jsonl", columns={"value": "value"})
    built = build(task="regress", source=source, test={"share": 0.2})
    means = [counts["value"]["mean"] for counts in built.metrics["splits"].values()]
    assert max(means) < 1.1 * min(means)


def test_a_split_that_gets_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match=r"labeled.x: split validation has no text \(train 3, validation 0, test 0\)"):
        build_rows([*rows(2), {"text": "x", "label": "rare"}], test={"share": 0.001}, validation={"share": 0.001})


def test_too_few_groups_for_a_share_are_an_error_that_names_the_remedy() -> None:
    one_group = [row | {"group": "g"} for row in rows(100)]
    with pytest.raises(DataError, match=r"has no text .* Groups are never divided; `groups` names those to hold out"):
        build_rows(one_group, group=True, test={"share": 0.1})


def test_a_source_of_its_own_can_have_other_columns() -> None:
    write({"input/test.csv": "body;kind\nnew;rare\n"})
    test = files("input/test.csv", delimiter=";", columns={"text": "body", "label": "kind"})
    built = build_rows(rows(100), test={"source": test})
    assert [(text.text, text.label) for text in built.data.split("test")] == [("new", "rare")]
    wrong = {"source": test | {"columns": {"text": "boddy", "label": "kind"}}}
    with pytest.raises(DataError, match=r"column `boddy` not found .*`body`\? Set labeled.x.test.source.columns"):
        build_rows(rows(100), test=wrong)


def test_the_result_is_the_same_twice() -> None:
    digests = {build_rows(rows(300), test={"share": 0.2}).data.digest for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "settings", "train", "test"),
    [
        (
            "banking77",
            {"task": "classify", "source": files("input/train.csv", columns={"label": "category"})},
            (10003, 77),
            (3080, 77),
        ),
        ("wnut17", {"task": "tag", "source": files("input/wnut17train.conll")}, (3394, 6), (1287, 6)),
        (
            "conll2003",
            {"task": "tag", "source": files("input/train.txt", format="conll", tag_column=1)},
            (14041, 4),
            (3453, 4),
        ),
        (
            "glue/MRPC",
            {
                "task": "classify",
                "source": files(
                    "input/msr_paraphrase_train.txt",
                    format="csv",
                    delimiter="\t",
                    quotes=False,
                    columns={"text": "#1 String", "second": "#2 String", "label": "Quality"},
                ),
            },
            (4076, 2),
            (1725, 2),
        ),
        (
            "glue/STS-B",
            {
                "task": "regress",
                "source": files(
                    "input/train.tsv",
                    quotes=False,
                    columns={"text": "sentence1", "second": "sentence2", "value": "score"},
                ),
            },
            (5749, 0),
            (1500, 0),
        ),
    ],
)
def test_public_data_has_its_published_counts(
    name: str, settings: dict[str, Any], train: tuple[int, int], test: tuple[int, int]
) -> None:
    held_out = {
        "banking77": "test.csv",
        "wnut17": "emerging.test.annotated",
        "conll2003": "test.txt",
        "glue/MRPC": "msr_paraphrase_test.txt",
        "glue/STS-B": "dev.tsv",
    }[name]
    if not (SHARED / name / held_out).is_file():
        pytest.skip(f"shared/data/{name} not found")
    Path("input").symlink_to(SHARED / name)
    if name == "wnut17":
        settings["source"] |= {"format": "conll"}
    built = build(**settings, test={"paths": f"input/{held_out}"}, leakage="keep")
    counts = built.metrics["splits"]
    assert counts["train"]["texts"] + counts["validation"]["texts"] == train[0]
    assert counts["test"]["texts"] == test[0] and built.quarantine == []
    assert (len(built.data.labels), len(counts["test"].get("labels", []))) == (train[1], test[1])
    assert built.data.is_pair == name.startswith("glue")


def test_clinc150_has_its_published_counts() -> None:
    path = SHARED / "clinc150" / "data_full.json"
    if not path.is_file():
        pytest.skip("shared/data/clinc150 not found")
    for split, texts in json.loads(path.read_text()).items():
        write(
            {
                f"input/{split}.jsonl": "".join(
                    json.dumps({"text": text, "label": label}) + "\n" for text, label in texts
                )
            }
        )
    source = files("input/train.jsonl", "input/oos_train.jsonl", columns={"label": "label"})
    held_out = {"validation": {"paths": ["input/val.jsonl", "input/oos_val.jsonl"]}}
    held_out["test"] = {"paths": ["input/test.jsonl", "input/oos_test.jsonl"]}
    built = build(task="classify", source=source, **held_out, leakage="keep")
    assert {split: counts["texts"] for split, counts in built.metrics["splits"].items()} == {
        "train": 15100,
        "validation": 3100,
        "test": 5500,
    }
    assert len(built.data.labels) == 151
