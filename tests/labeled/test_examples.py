"""A published labeled data set is read as it was written, and a damaged one is refused."""

from pathlib import Path

import pytest

from cclm_core.corpus.records import Entity
from cclm_core.labeled.examples import LabeledSet, LabeledTask, LabeledText, fault, write_labeled
from cclm_core.runtime.artifacts import folder_digest, publishing
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError

TEXTS: dict[LabeledTask, list[LabeledText]] = {
    "classify": [
        LabeledText("a:1", "Where is my card?", label="card", group="x", slices={"channel": "mail", "day": "1"}),
        LabeledText("a:2", "Geld zurück 💶", label="refund"),
    ],
    "multilabel": [LabeledText("a:1", "late and broken", labels=("broken", "late")), LabeledText("a:2", "fine")],
    "regress": [LabeledText("a:1", "A man sings.", "A person sings.", value=4.5)],
    "tag": [LabeledText("a:1", "In New York", entities=(Entity(3, 11, "LOC"),), words=((0, 2), (3, 6), (7, 11)))],
}


def publish(folder: Path, task: LabeledTask, texts: list[LabeledText]) -> LabeledSet:
    with publishing(folder, "labeled") as temporary:
        write_labeled(temporary, task, {"train": texts, "validation": texts[:1], "test": []}, ["channel", "day"])
    return LabeledSet.open(folder)


@pytest.mark.parametrize("task", TEXTS)
def test_texts_of_every_task_are_read_as_they_were_written(tmp_path: Path, task: LabeledTask) -> None:
    data = publish(tmp_path / "set", task, TEXTS[task])
    assert data.split("train") == TEXTS[task]
    assert data.split("validation") == TEXTS[task][:1]
    assert data.split("test") == []
    assert (data.task, data.is_pair, data.slices) == (task, task == "regress", ("channel", "day"))
    expected = {"classify": ("card", "refund"), "multilabel": ("broken", "late"), "regress": (), "tag": ("LOC",)}
    assert data.labels == expected[task]
    assert data.digest == folder_digest(tmp_path / "set")


def test_equal_texts_give_equal_bytes(tmp_path: Path) -> None:
    assert publish(tmp_path / "a", "tag", TEXTS["tag"]).digest == publish(tmp_path / "b", "tag", TEXTS["tag"]).digest


def test_many_texts_keep_their_order(tmp_path: Path) -> None:
    texts = [LabeledText(f"a:{line}", f"text {line}", label=str(line % 3)) for line in range(10_000)]
    assert publish(tmp_path / "set", "classify", texts).split("train") == texts


def test_an_altered_set_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "set", "classify", TEXTS["classify"])
    path = tmp_path / "set" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"train.parquet is altered"):
        LabeledSet.open(tmp_path / "set")


def test_another_artifact_and_another_split_are_refused(tmp_path: Path) -> None:
    with publishing(tmp_path / "corpus", "corpus") as folder:
        (folder / "a").touch()
    with pytest.raises(ArtifactError, match="must contain a published labeled"):
        LabeledSet.open(tmp_path / "corpus")
    with pytest.raises(ConfigError, match="`name` must be one of train, validation, test, got 'dev'"):
        publish(tmp_path / "set", "classify", TEXTS["classify"]).split("dev")


@pytest.mark.parametrize(
    ("text", "task", "is_pair", "reason"),
    [
        (LabeledText("1", " ", label="a"), "classify", False, "empty text"),
        (LabeledText("1", "a", "", label="a"), "classify", True, "empty text"),
        (LabeledText("1", "a", label="a"), "classify", True, "empty text"),
        (LabeledText("1", "a", label=" "), "classify", False, "no label"),
        (LabeledText("1", "a\0", label="a"), "classify", False, "NUL character"),
        (LabeledText("1", "a", label="\ud800"), "classify", False, "lone surrogate"),
        (LabeledText("1", "a", labels=("",)), "multilabel", False, "empty label"),
        (LabeledText("1", "a"), "regress", False, "target is not a finite number"),
        (LabeledText("1", "a", value=float("nan")), "regress", False, "target is not a finite number"),
        (LabeledText("1", "a", entities=(Entity(0, 2, "X"),)), "tag", False, "entity span out of range"),
        (LabeledText("1", "a", entities=(Entity(0, 1, ""),)), "tag", False, "entity without a label"),
        (LabeledText("1", "ab", words=((0, 2), (1, 2))), "tag", False, "word span out of range"),
    ],
)
def test_an_unusable_text_has_a_reason(text: LabeledText, task: LabeledTask, is_pair: bool, reason: str) -> None:
    assert fault(text, task, is_pair) == reason
