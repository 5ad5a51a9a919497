"""From the files of a user to the sections `ingest` and `labeled` of params.yaml, and what they hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from cclm_core.corpus.records import SPLITS
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.dataset import LabeledData, build_labeled
from cclm_core.labeled.reading import read_sources
from cclm_core.runtime.errors import DataError
from cclm_core.survey.corpus import CorpusSurvey, named_groups, survey_corpus
from cclm_core.survey.files import INPUT, DataFile
from cclm_core.survey.layout import Layout
from cclm_core.survey.profile import profiles
from cclm_core.survey.roles import Asked, Roles, roles_of
from cclm_core.survey.rows import first_rows

SEED = 1
_TEST_SHARE, _FEW_GROUPS = 0.2, 40
_CORPUS_COLUMNS = ("text", "label", "group", "entities")


@dataclass
class Plan:
    """What was seen, and the sections that fit it.

    Attributes:
        ingest: the section `ingest`.
        labeled: the entry of the section `labeled`; None if there is no task.
        roles: what the columns are for.
        corpus: what the corpus has.
        data: the labeled data set, as the stage `labeled` would publish it; None if there is no task.
        written: path in the project -> content of a text file that has to be written for the corpus.
    """

    ingest: dict[str, Any]
    labeled: dict[str, Any] | None
    roles: Roles
    corpus: CorpusSurvey
    data: LabeledData | None
    written: dict[str, str] = field(default_factory=dict)


def decide_roles(files: Sequence[DataFile], asked: Asked) -> Roles:
    """Decides what the columns of the training files are for.

    Raises:
        DataError: the files differ in how they are written, or it is not clear what a column is for.
    """
    train = [file for file in files if file.split == "train" and not file.is_text]
    if not train:
        if asked.task not in (None, "text") or asked.label or asked.tags:
            raise DataError(f"{files[0].path} is plain text, which has no labels. Use CSV, JSON lines or CoNLL.")
        return Roles(assumptions=["plain text: one text per line, a corpus without a task"])
    for file in train[1:]:
        if (file.layout, file.is_table) != (train[0].layout, train[0].is_table):
            raise DataError(
                f"{train[0].path} and {file.path} are written differently ({_described(train[0])} and "
                f"{_described(file)}). Convert one of them."
            )
    if not train[0].is_table:
        if asked.task == "text":
            return Roles()
        if asked.task not in (None, "tag") or asked.label:
            raise DataError(f"{train[0].path} is CoNLL, whose task is tag, not {asked.task or 'on labels'}.")
        return Roles(task="tag")
    rows = chain.from_iterable(first_rows(file.path, str(file.path), file.layout) for file in train)
    columns = profiles(rows)
    if not columns:
        raise DataError(f"{train[0].path} has no usable row. Check its content.")
    return roles_of(columns, asked, str(train[0].path))


def plan_data(files: Sequence[DataFile], roles: Roles, name: str, tag_names: Sequence[str] = ()) -> Plan:
    """Reads all data as the stages will, and writes the sections for it. The working directory is the project.

    Args:
        files: the files, which are in the folder `input` already.
        roles: what their columns are for.
        name: the name of the data set.
        tag_names: names of tags that are numbers.

    Raises:
        DataError: the data cannot be read or has too few texts.
    """
    labeled, data = None, None
    if roles.task is not None:
        labeled, data = plan_labeled(files, roles, name, tag_names)
    source, written = _corpus_source(files, roles, data, name)
    for path, content in written.items():
        Path(path).write_text(content, encoding="utf-8")
    corpus = survey_corpus(source, SEED)
    ingest = {"source": source, **corpus.splits, "duplicates": "exact"}
    return Plan(ingest, labeled, roles, corpus, data, written)


def plan_labeled(
    files: Sequence[DataFile], roles: Roles, name: str, tag_names: Sequence[str] = ()
) -> tuple[dict[str, Any], LabeledData]:
    """The entry of the section `labeled` for files, and the data set as its stage would publish it.

    Args and errors are those of `plan_data`; `roles` must have a task.
    """
    entry = _labeled_entry(files, roles, tag_names)
    entry |= _held_out(files, entry, name)
    config = LabeledConfig.parse(entry, f"labeled.{name}")
    return entry, build_labeled(config, name, SEED, Path())


def texts_file(name: str) -> str:
    """The path, in the project, of the file with the texts of a data set whose texts are lists of words, or pairs."""
    return f"{INPUT}/{name}_texts.txt"


def _labeled_entry(files: Sequence[DataFile], roles: Roles, tag_names: Sequence[str]) -> dict[str, Any]:
    train = [file for file in files if file.split == "train" and not file.is_text]
    entry: dict[str, Any] = {"task": roles.task, "source": _source(train, roles.columns)}
    if roles.label_separator is not None:
        entry["label_separator"] = roles.label_separator
    if train[0].layout.tag_scheme == "io":
        entry["tag_scheme"] = "io"
    if roles.needs_tag_names:
        if not tag_names:
            raise DataError(
                f"the tags in `{roles.columns['tags']}` are numbers. Pass their names in order, for example "
                "--tag-names O,B-PER,I-PER."
            )
        entry["tag_names"] = list(tag_names)
    return entry


def _source(files: Sequence[DataFile], columns: Mapping[str, Any], keeps_scheme: bool = False) -> dict[str, Any]:
    settings = files[0].layout.settings()
    if not keeps_scheme:
        settings.pop("tag_scheme", None)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    own = {"columns": dict(columns)} if columns else {}
    return {"kind": "files", "paths": [file.target for file in files], **settings, **own}


def _held_out(files: Sequence[DataFile], entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys `validation` and `test`: files, groups or shares."""
    train = next(file for file in files if file.split == "train" and not file.is_text)
    held_out: dict[str, Any] = {}
    for split in ("validation", "test"):
        own = [file for file in files if file.split == split]
        if not own:
            continue
        if any(file.layout != own[0].layout for file in own):
            raise DataError(f"the files of the {split} split are written differently. Convert them.")
        is_alike = own[0].layout == train.layout
        paths = {"paths": [file.target for file in own]}
        held_out[split] = paths if is_alike else {"source": _source(own, entry["source"].get("columns", {}))}
    missing = [split for split in ("validation", "test") if split not in held_out]
    if missing and (groups := _groups(entry, name)):
        chosen = named_groups(groups)
        return held_out | {split: {"groups": chosen[split]} for split in missing}
    shares = {"validation": 0.1, "test": _TEST_SHARE}
    return held_out | {split: {"share": shares[split]} for split in missing}


def _groups(entry: Mapping[str, Any], name: str) -> Counter[str]:
    """Group -> its texts, if all texts have one and the groups are too few for shares of them."""
    config = LabeledConfig.parse({**entry, "test": {"share": 0.5}}, f"labeled.{name}")
    examples = read_sources(config, name, Path()).examples["train"]
    groups = Counter(example.text.group for example in examples if example.text.group is not None)
    if not groups or len(groups) >= _FEW_GROUPS or groups.total() < len(examples):
        return Counter()
    if len(groups) < 3:
        raise DataError(f"the texts must have at least 3 groups, got {', '.join(map(str, groups))}. Leave out --group.")
    return Counter({str(group): count for group, count in groups.items()})


def _corpus_source(
    files: Sequence[DataFile], roles: Roles, data: LabeledData | None, name: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The section `ingest.source`, and files to write for it: the texts of pairs or of words in lists, one per line."""
    texts = [file for file in files if file.is_text and file.split == "train"]
    train = [file for file in files if not file.is_text and file.split == "train"]
    columns = {key: value for key, value in roles.columns.items() if key in _CORPUS_COLUMNS}
    if "tokens" in roles.columns or "second" in roles.columns:
        assert data is not None
        path = texts_file(name)
        own = [example for split in SPLITS if split != "test" for example in data.splits[split]]
        both = [text for example in own for text in (example.text, example.second) if text is not None]
        lines = "".join(" ".join(text.split()) + "\n" for text in both)
        return _source([*texts, DataFile(Path(path), path.removeprefix(f"{INPUT}/"), "train", Layout())], {}), {
            path: lines
        }
    if not train:
        return _source(texts, {}), {}
    for file in texts:
        if file.layout.encoding != train[0].layout.encoding or train[0].layout.format is not None:
            raise DataError(
                f"{train[0].path} and {file.path} are written differently ({_described(train[0])} and "
                f"{_described(file)}). Convert one of them."
            )
    return _source([*train, *texts], columns, keeps_scheme=True), {}


def _described(file: DataFile) -> str:
    settings = {"format": file.layout.format_of(file.path), **file.layout.settings()}
    return ", ".join(f"{key} {value!r}" for key, value in settings.items())
