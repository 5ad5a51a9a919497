"""What is wrong with labeled data is rejected, removed or a warning, each with its file and line; nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from cclm_core.labeled.config import LabeledConfig
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.steps.params import Params
from tests.labeled.stages import OUT, Built, build, files, write


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def classify(train: str, test: str, dev: str = "text,label\nd1,a\nd2,b\n", **settings: Any) -> Built:
    write({"input/a.csv": train, "input/test.csv": test, "input/dev.csv": dev})
    given = {"validation": {"paths": "input/dev.csv"}, "test": {"paths": "input/test.csv"}}
    source = files("input/a.csv", columns={"label": "label"})
    return build(task="classify", source=source, **(given | settings))


def warning(built: Built, start: str) -> str:
    """The one warning that starts so."""
    (message,) = [message for message in built.metrics["warnings"] if message.startswith(start)]
    return str(message)


TRAIN = "text,label\none,a\ntwo,b\nthree,a\nfour,b\n"
TEST = "text,label\nfive,a\n  one ,a\nsix,b\n"


def test_texts_of_the_test_split_are_removed_from_train_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    built = classify(TRAIN, TEST)
    assert built.texts("train") == ["two", "three", "four"]
    assert built.texts("test") == ["five", "  one ", "six"]
    assert built.quarantine == [
        {
            "file": "input/a.csv",
            "line": 2,
            "reason": "also in test",
            "excerpt": "one",
            "duplicate_of": "input/test.csv:3",
        }
    ]
    assert built.metrics["leakage"] == {"train_in_test": 1, "train_in_validation": 0, "validation_in_test": 0}
    message = (
        "texts of train that are also in test: 1 of 4, such as input/a.csv:2 and input/test.csv:3. They were removed"
    )
    assert message in warning(built, "texts of train") and f"labeled@x: warning: {message}" in capsys.readouterr().err


def test_leakage_can_be_kept() -> None:
    built = classify(TRAIN, TEST, leakage="keep")
    assert built.texts("train") == ["one", "two", "three", "four"] and built.quarantine == []
    assert "1 of 4" in warning(built, "texts of train") and "too good" in warning(built, "texts of train")


def test_texts_of_validation_and_test_are_compared_as_well() -> None:
    built = classify(TRAIN, TEST, "text,label\ntwo,b\nsix,b\nseven,a\n")
    assert built.texts("train") == ["three", "four"] and built.texts("validation") == ["two", "seven"]
    assert built.metrics["leakage"] == {"train_in_test": 1, "train_in_validation": 1, "validation_in_test": 1}


def test_pairs_leak_only_as_pairs() -> None:
    write({"input/a.csv": "a,b,y\none,two,1\none,three,2\n", "input/test.csv": "a,b,y\none,three,2\none,four,1\n"})
    write({"input/dev.csv": "a,b,y\nfive,six,1\n"})
    source = files("input/a.csv", columns={"text": "a", "second": "b", "label": "y"})
    given = {"validation": {"paths": "input/dev.csv"}, "test": {"paths": "input/test.csv"}}
    built = build(task="classify", source=source, **given, leakage="keep")
    assert built.metrics["leakage"]["train_in_test"] == 1


def test_groups_in_two_given_files_are_a_warning() -> None:
    write({"input/a.csv": "text,label,group\none,a,g\ntwo,b,h\n", "input/test.csv": "text,label,group\nthree,a,g\n"})
    write({"input/dev.csv": "text,label,group\nfour,a,i\n"})
    source = files("input/a.csv", columns={"label": "label", "group": "group"})
    given = {"validation": {"paths": "input/dev.csv"}, "test": {"paths": "input/test.csv"}}
    assert warning(build(task="classify", source=source, **given), "groups in both train and test: 1, such as 'g'")


def test_equal_texts_with_different_labels_are_a_warning() -> None:
    built = classify(TRAIN + "two,a\ntwo,b\none,a\n", "text,label\nfive,a\nsix,b\n")
    message = "texts of train with different labels: 1, such as input/a.csv:3 (b) and input/a.csv:6 (a)."
    assert warning(built, "texts of train with different") == message
    assert built.metrics["repeated_texts"]["train"] == 3
    assert built.metrics["texts_with_different_labels"] == {"train": 1, "validation": 0, "test": 0}


def test_empty_labels_and_texts_are_rejected() -> None:
    built = classify(TRAIN + "seven,\n,a\neight, \n", TEST.replace("one", "nine"))
    assert [(row["line"], row["reason"]) for row in built.quarantine] == [
        (6, "no label"),
        (7, "empty text"),
        (8, "no label"),
    ]
    assert warning(built, "2 rejected: no label") == (
        "2 rejected: no label, first at input/a.csv:6 (see quarantine.jsonl)."
    )


def test_quotes_and_encodings_have_a_hint() -> None:
    built = classify(TRAIN + 'seven,a\n"eight" no,a\n', TEST)
    assert warning(built, "1 rejected: not CSV").endswith("set `quotes: false` in its source.")
    write({"input/a.jsonl": b'{"text": "caf\xe9", "label": "a"}\n'})
    with pytest.raises(DataError, match=r"Rejected: 1 x invalid UTF-8, .* set the key `encoding` of its source"):
        build(task="classify", source=files("input/a.jsonl", columns={"label": "label"}), test={"share": 0.2})


def test_labels_that_are_not_in_train_and_labels_with_one_example_are_warnings() -> None:
    built = classify(TRAIN + "seven,c\n", "text,label\nfive,d\nsix,e\nnine,a\n")
    assert warning(built, "labels of test") == (
        "labels of test that are not in train, so never predicted: 2 of 3, 'd', 'e'."
    )
    assert warning(built, "labels with one example") == "labels with one example in train: 1 of 3, 'c'."
    assert built.data.labels == ("a", "b", "c")
    assert warning(built, "split test has 3 texts; figures measured on fewer than 100")


def test_targets_that_are_no_numbers_are_rejected() -> None:
    values = ["1.5", "NaN", "", "high", "inf", "1_000", "true"]
    write({"input/a.csv": "text,y\n" + "".join(f"text {index},{value}\n" for index, value in enumerate(values))})
    rest = "text,y\n" + "".join(f"other {index},{index}\n" for index in range(20))
    write({"input/b.csv": rest})
    built = build(
        task="regress", source=files("input/a.csv", "input/b.csv", columns={"value": "y"}), test={"share": 0.2}
    )
    assert [(row["line"], row["reason"]) for row in built.quarantine] == [
        (3, "target is NaN"),
        (4, "no target"),
        (5, "target is not a number"),
        (6, "target is infinite"),
        (7, "target is not a number"),
        (8, "target is not a number"),
    ]
    assert warning(built, "1 rejected: target is NaN") and built.metrics["quarantined"]["total"] == 6


@pytest.mark.parametrize(
    ("row", "settings", "reason"),
    [
        ({"l": [1, None]}, {}, "empty label"),
        ({"l": [["a"]]}, {}, "a label is not a text or a number"),
        ({"l": "a,b"}, {}, "labels are not a list; set `label_separator`"),
        ({"l": 3}, {}, "labels are not a list; set `label_separator`"),
        ({"l": "2", "m": 1}, {"columns": {"labels": ["l", "m"]}}, "`l` is not 0 or 1"),
        ({"l": None, "m": 1}, {"columns": {"labels": ["l", "m"]}}, "`l` is not 0 or 1"),
    ],
)
def test_odd_lists_of_labels_are_rejected(row: dict[str, Any], settings: dict[str, Any], reason: str) -> None:
    several = "columns" in settings
    good = [{"text": f"text {index}", "l": index % 2 if several else ["x"], "m": 1} for index in range(30)]
    lines = [json.dumps({"text": "odd", "m": 0} | row), *map(json.dumps, good)]
    write({"input/a.jsonl": "\n".join(lines)})
    columns = settings.get("columns", {"labels": "l"})
    built = build(task="multilabel", source=files("input/a.jsonl", columns=columns), test={"share": 0.2})
    assert [(item["line"], item["reason"]) for item in built.quarantine] == [(1, reason)]


@pytest.mark.parametrize(
    ("tokens", "tags", "reason"),
    [
        (["a", "b"], ["O"], "tokens and tags differ in number"),
        (["a", ""], ["O", "O"], "empty token"),
        (["a", 1], ["O", "O"], "a token is not a text"),
        (["a"], ["PER"], "unknown tag"),
        (["a"], [1], "tags are numbers; set `tag_names`"),
        (["a"], [None], "a tag is not a text"),
        (7, ["O"], "tokens are not a list"),
        ([], [], "empty text"),
    ],
)
def test_odd_tokens_and_tags_are_rejected(tokens: Any, tags: Any, reason: str) -> None:
    good = [{"tokens": [f"Ann{index}"], "tags": ["B-PER"]} for index in range(30)]
    write({"input/a.jsonl": "\n".join(map(json.dumps, [{"tokens": tokens, "tags": tags}, *good]))})
    source = files("input/a.jsonl", columns={"tokens": "tokens", "tags": "tags"})
    built = build(task="tag", source=source, test={"share": 0.2})
    assert [(item["line"], item["reason"]) for item in built.quarantine] == [(1, reason)]


def test_illegal_tags_are_reported_once_per_kind_and_repaired() -> None:
    sentence = "Ann{0} B-PER\nLee{0} I-PER\nin O\n\n"
    content = "".join(sentence.format(number) for number in range(30)) + "In O\nYork I-LOC\n\nto O\nRome I-LOC\n"
    write({"input/a.conll": content})
    built = build(task="tag", source=files("input/a.conll"), test={"share": 0.2})
    assert warning(built, "tags: ") == (
        "tags: a tag continues an entity that was not begun: 2 times, first at input/a.conll:122 (O I-LOC). "
        "It begins an entity."
    )
    assert built.metrics["illegal_tags"] == [
        {"kind": "a tag continues an entity that was not begun", "times": 2, "first": "input/a.conll:122"}
    ]
    texts = [text for split in ("train", "validation", "test") for text in built.data.split(split)]
    (york,) = [text for text in texts if text.text == "In York"]
    assert [(entity.start, entity.end, entity.label) for entity in york.entities] == [(3, 7, "LOC")]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("text,label\none,a\ntwo,a\n", "train must have at least two labels, got 'a'"),
        (
            "text,label\none,\ntwo,\n",
            r"no usable text for the split train in the source. Rejected: 2 x no label, first",
        ),
        ("text,label\n", "no usable text for the split train in the source. It is empty"),
        ("text,label\nx1,a\nx2,b\n", "split train has no text"),
        ("text,lable\none,a\n", r"column `label` not found .*Did you mean `lable`\? Set labeled.x.source.columns"),
    ],
)
def test_data_that_cannot_be_used_is_an_error_and_publishes_nothing(train: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classify(train, "text,label\nx1,a\nx2,b\n")
    assert not OUT.exists()


def test_a_constant_target_and_a_set_without_entities_are_errors() -> None:
    write({"input/a.jsonl": "".join(json.dumps({"text": f"t {index}", "y": 1, "e": []}) + "\n" for index in range(40))})
    test = {"share": 0.2}
    with pytest.raises(DataError, match=r"labeled.x: all targets of train are 1.0"):
        build(task="regress", source=files("input/a.jsonl", columns={"value": "y"}), test=test)
    with pytest.raises(DataError, match=r"labeled.x: no text of train has an entity"):
        build(task="tag", source=files("input/a.jsonl", columns={"entities": "e"}), test=test)


def test_a_file_in_two_splits_is_an_error() -> None:
    write({"input/a.csv": TRAIN, "input/b.csv": TEST})
    source = files("input/*.csv", columns={"label": "label"})
    with pytest.raises(DataError, match=r"labeled.x: input/b.csv is in the split train and in the split test"):
        build(task="classify", source=source, test={"paths": "input/b.csv"})


LABEL = {"label": "label"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "classify", "source": files("a.csv", columns=LABEL)},
            r"labeled.x.source.paths must be in input/, got 'a.csv'",
        ),
        ({"task": "classify", "source": files("input/../a.csv", columns=LABEL)}, "must be in input/"),
        ({"test": {"paths": "/a.csv"}}, r"labeled.x.test.paths must be in input/, got '/a.csv'"),
        ({"test": {"source": files("b.csv", columns=LABEL)}}, r"labeled.x.test.source.paths must be in input/"),
        (
            {"source": {"kind": "dataset", "path": "saved", "columns": LABEL}},
            r"labeled.x.source.path must be in input/",
        ),
        ({"source": files("input/a.csv")}, r"the task classify needs columns.label"),
        ({"task": "multilabel"}, r"the task multilabel needs columns.labels"),
        ({"task": "regress"}, r"the task regress needs columns.value"),
        ({"task": "tag"}, r"the task tag needs columns.tokens and columns.tags, or columns.entities"),
        ({"task": "tag", "source": files("input/a.conll", columns={"second": "b"})}, "the task tag has no pairs"),
        ({"task": "tag", "source": files("input/a.conll", tag_scheme="io")}, "set `tag_scheme` of the data set"),
        ({"task": "tag", "source": files("input/a.csv", columns={"tokens": "t"})}, "set both `tokens` and `tags`"),
        ({"task": "sort"}, "task must be 'classify', 'multilabel', 'regress' or 'tag', got 'sort'"),
        ({"test": {}}, "set exactly one of .*, got none"),
        ({"test": {"share": 0.1, "groups": "g"}}, "set exactly one of .*, got share and groups"),
        ({"test": {"share": 0.95}}, r"validation.share \+ test.share must be below 1, got 1.05"),
        ({"test": {"groups": "a"}, "validation": {"groups": ["a", "b"]}}, "groups in both validation and test: a"),
        ({"test": {"split": "test"}}, "test.split needs a source of kind dataset, got files"),
        ({"test": {"paths": "input/a.csv"}}, "input/a.csv is given for two splits"),
        (
            {"test": {"source": files("input/b.csv", columns=LABEL | {"second": "b"})}},
            "columns.second must be set for all",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    valid = {"task": "classify", "source": files("input/a.csv", columns=LABEL), "test": {"share": 0.2}}
    with pytest.raises(ConfigError, match=message):
        Params({"seed": 1, "labeled": {"x": valid | settings}}).named(LabeledConfig, "x")
    Params({"seed": 1, "labeled": {"x": valid}}).named(LabeledConfig, "x")


def test_a_missing_test_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"labeled.x: test is missing. Add a test split, for .* `test: {share: 0.2}`"):
        Params({"labeled": {"x": {"task": "classify", "source": files("input/a.csv", columns=LABEL)}}}).named(
            LabeledConfig, "x"
        )
