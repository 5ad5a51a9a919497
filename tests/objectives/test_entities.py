"""The labels of entity tags: saved with the head, and read back or refused."""

from pathlib import Path
from typing import Any

import pytest

from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.entities import EntitiesConfig, read_labels, write_labels
from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.vocabulary import Preprocessor

GOOD = {"format": "cclm-labels-1", "scheme": "BIO of characters", "labels": ["A", "B"]}


def test_a_saved_head_names_its_labels(tmp_path: Path) -> None:
    context = ObjectiveContext(width=4, preprocessor=Preprocessor(alphabet="ab"), entity_labels=("LOC", "PER"))
    EntitiesConfig().build(context).save(tmp_path)
    assert read_labels(tmp_path) == ("LOC", "PER")


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_labels(tmp_path) == ()
    write_labels(tmp_path, ("é", "A B"))
    assert read_labels(tmp_path) == ("é", "A B")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"labels.json"),
        (GOOD | {"format": "other"}, "must have format cclm-labels-1"),
        (GOOD | {"scheme": "IOBES"}, "and scheme 'BIO of characters'"),
        (GOOD | {"labels": "AB"}, "must list the labels as nonempty strings"),
        (GOOD | {"labels": ["A", None]}, "must list the labels as nonempty strings"),
        (GOOD | {"labels": ["A", ""]}, "must list the labels as nonempty strings"),
        (GOOD | {"labels": ["A", "A"]}, "must list each label once"),
    ],
)
def test_other_contents_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(ArtifactError, match=message):
        read_labels(tmp_path)
