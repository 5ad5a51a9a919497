"""Decides which column is the text, which one is the target, and what kind of task that makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cclm_core.ingest.sources.columns import did_you_mean, listed
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.errors import DataError
from cclm_core.survey.profile import Profile

TaskKind = Literal["classify", "multilabel", "regress", "tag", "pairs", "text"]
"""What a user can ask for: `pairs` is a task on two texts, `text` a corpus without a task."""

_TEXT_NAMES = ("text", "sentence", "message", "body", "content", "comment", "review", "utterance", "question", "tweet")
_PAIR_NAMES = (
    ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"), ("premise", "hypothesis"),
    ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("query", "passage"), ("question", "answer"),
)  # fmt: skip
_TARGET_NAMES = (
    "label",
    "labels",
    "category",
    "categories",
    "class",
    "intent",
    "target",
    "topic",
    "sentiment",
    "score",
)
_TOKEN_NAMES, _TAG_NAMES = ("tokens", "words"), ("ner_tags", "tags", "entities", "spans", "labels")
_SIMILAR_LENGTHS = 1.5  # two columns of texts whose mean lengths differ by at most this factor are pairs


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options of the user: names of columns, the kind of task."""

    text: str | None = None
    second: str | None = None
    label: tuple[str, ...] = ()
    tags: str | None = None
    group: str | None = None
    task: TaskKind | None = None


@dataclass(kw_only=True)
class Roles:
    """What the columns are for.

    Attributes:
        task: the kind of task; None for texts alone.
        columns: keys of `LabeledColumns`.
        label_separator: see `LabeledConfig`.
        needs_tag_names: whether tags are numbers.
        assumptions: sentences on what was assumed, and the option that overrides it.
    """

    task: LabeledTask | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    label_separator: str | None = None
    needs_tag_names: bool = False
    assumptions: list[str] = field(default_factory=list)


def roles_of(columns: Mapping[str, Profile], asked: Asked, source: str) -> Roles:
    """Decides what the columns are for.

    Args:
        columns: the profile of every column, by name.
        asked: options of the user, which are never overruled.
        source: the name of the file.

    Raises:
        DataError: a column does not exist, or it is not clear which one is meant; the message lists the choices.
    """
    asked = _resolved(columns, asked, source)
    roles = Roles()
    if asked.group is not None:
        roles.columns["group"] = asked.group
    if _is_tagged(columns, asked):
        _add_tags(columns, asked, source, roles)
        return roles
    _add_texts(columns, asked, source, roles)
    if asked.task == "text":
        return roles
    if asked.task == "pairs" and "second" not in roles.columns:
        raise DataError(
            f"pairs need two columns of texts in {source}, which has {listed(list(columns))}. Pass --second."
        )
    _add_target(columns, asked, source, roles)
    if asked.group is None:
        _suggest_group(columns, roles)
    return roles


def _resolved(columns: Mapping[str, Profile], asked: Asked, source: str) -> Asked:
    """The same with the names of columns; numbers stand for the columns of a table without a header."""

    def resolve(name: str | None, option: str) -> str | None:
        if name is None or name in columns:
            return name
        if f"column_{name}" in columns:
            return f"column_{name}"
        hint = did_you_mean(name, list(columns))
        raise DataError(
            f"{option} {name}: {source} has no such column; it has {listed(list(columns))}. {hint}".rstrip()
        )

    return Asked(
        text=resolve(asked.text, "--text"),
        second=resolve(asked.second, "--second"),
        label=tuple(str(resolve(name, "--label")) for name in asked.label),
        tags=resolve(asked.tags, "--tags"),
        group=resolve(asked.group, "--group"),
        task=asked.task,
    )


def _is_tagged(columns: Mapping[str, Profile], asked: Asked) -> bool:
    if asked.tags is not None or asked.task == "tag":
        return True
    if asked.task is not None or asked.label:
        return False
    has_tokens = any(columns[name].is_list for name in _TOKEN_NAMES if name in columns)
    return has_tokens or any(profile.span_lists for profile in columns.values())


def _add_tags(columns: Mapping[str, Profile], asked: Asked, source: str, roles: Roles) -> None:
    roles.task = "tag"
    name = asked.tags or next((name for name in _TAG_NAMES if name in columns and name != asked.text), None)
    name = name or next((name for name, profile in columns.items() if profile.span_lists), None)
    if name is None:
        raise DataError(f"which column of {source} has the tags? It has {listed(list(columns))}. Pass --tags COLUMN.")
    tags = columns[name]
    if tags.span_lists or not tags.num_filled or (tags.is_list and not tags.items):
        roles.columns["entities"] = name
        rest = {key: profile for key, profile in columns.items() if key != name}
        roles.columns["text"] = asked.text or _text_column(rest, source, roles)
    else:
        tokens = asked.text or next((key for key in _TOKEN_NAMES if key in columns), None)
        if tokens is None:
            others = listed([key for key in columns if key != name])
            raise DataError(
                f"which column of {source} has the words of `{name}`? Pass --text COLUMN; there are {others}."
            )
        roles.columns |= {"tokens": tokens, "tags": name}
        roles.needs_tag_names = tags.number_lists > 0
    if asked.tags is None:
        roles.assumptions.append(f"`{name}` has the tags; --tags or --task overrides that")


def _add_texts(columns: Mapping[str, Profile], asked: Asked, source: str, roles: Roles) -> None:
    rest = {name: profile for name, profile in columns.items() if name not in (*asked.label, asked.group, asked.second)}
    pair = next((pair for pair in _PAIR_NAMES if set(pair) <= set(rest)), None)
    if asked.text is None and asked.second is None and pair is not None:
        roles.columns |= dict(zip(("text", "second"), pair, strict=True))
        roles.assumptions.append(f"`{pair[0]}` and `{pair[1]}` are pairs of texts; --text COLUMN reads one of them")
        return
    text = asked.text or _text_column(rest, source, roles)
    roles.columns["text"] = text
    if asked.second is not None:
        roles.columns["second"] = asked.second
        return
    for name in _texts(rest):
        lengths = sorted((rest[name].mean_characters, columns[text].mean_characters))
        if name == text or asked.text is not None:
            continue
        if lengths[1] <= _SIMILAR_LENGTHS * lengths[0] or asked.task == "pairs":
            roles.columns["second"] = name
            roles.assumptions.append(f"`{text}` and `{name}` are pairs of texts; --text COLUMN reads one of them")
            return
        roles.assumptions.append(f"`{name}` has texts, too, which are not read; --second {name} makes pairs")


def _texts(columns: Mapping[str, Profile]) -> list[str]:
    """Columns of texts: different values of several words, the longest first."""
    names = [
        name
        for name, profile in columns.items()
        if profile.is_filled and not profile.is_list and not profile.is_number
        and profile.is_distinct and profile.mean_words >= 2
    ]  # fmt: skip
    return sorted(names, key=lambda name: -columns[name].mean_characters)


def _text_column(columns: Mapping[str, Profile], source: str, roles: Roles) -> str:
    texts = _texts(columns)
    by_name = [name for name in columns if name.lower() in _TEXT_NAMES and not columns[name].is_number]
    strings = [name for name, profile in columns.items() if profile.counts and not profile.is_number]
    if len(by_name) == 1:
        return by_name[0]
    choices = by_name or texts or strings
    if not choices:
        raise DataError(f"which column of {source} is the text? It has {listed(list(columns))}. Pass --text COLUMN.")
    text = max(choices, key=lambda name: columns[name].mean_characters)
    if len(choices) > 1 or not texts:
        roles.assumptions.append(f"`{text}` is the text, the longest column; --text overrides that")
    return text


def _add_target(columns: Mapping[str, Profile], asked: Asked, source: str, roles: Roles) -> None:
    used = {roles.columns["text"], roles.columns.get("second"), roles.columns.get("group")}
    rest = {name: profile for name, profile in columns.items() if name not in used}
    names = asked.label or _target_columns(rest, asked, source, roles)
    if not names:
        if asked.task is not None:
            raise DataError(
                f"which column of {source} is the target of {asked.task}? Besides the text it has "
                f"{listed(list(rest))}. Pass --label COLUMN."
            )
        roles.assumptions.append("no column of labels, so the texts are a corpus without a task; --label names one")
        return
    if len(names) > 1:
        if wrong := [name for name in names if not columns[name].is_truth]:
            raise DataError(f"`{wrong[0]}` of {source} must be 0 or 1 in every row, because there are several --label.")
        roles.task, roles.columns["labels"] = "multilabel", list(names)
        return
    _add_single_target(columns[names[0]], asked, source, roles)


def _add_single_target(target: Profile, asked: Asked, source: str, roles: Roles) -> None:
    task: TaskKind | None = None if asked.task == "pairs" else asked.task
    name = target.name
    separator = None if target.is_list else target.separator
    if task is None:
        task = _task_of(target, separator, roles)
    if task == "multilabel":
        roles.task, roles.columns["labels"] = "multilabel", name
        if not target.is_list:
            roles.label_separator = separator or ";"
            if separator is None:
                roles.assumptions.append(f"the labels in `{name}` are separated by `;`")
    elif task == "regress":
        if not target.is_number:
            raise DataError(f"`{name}` of {source} must be numbers for regress. Correct it, or pass another --task.")
        roles.task, roles.columns["value"] = "regress", name
    else:
        if target.is_list:
            raise DataError(f"`{name}` of {source} has lists, so its task is multilabel, not {task}.")
        if not target.has_classes and len(target.counts) > 1000:
            raise DataError(
                f"`{name}` of {source} has {len(target.counts):,} different values, too many for labels. Pass another "
                "--label, or --task regress for numbers."
            )
        roles.task, roles.columns["label"] = "classify", name


def _task_of(target: Profile, separator: str | None, roles: Roles) -> TaskKind:
    name, number = target.name, len(target.counts)
    if target.is_list:
        return "multilabel"
    if target.is_number and not target.has_classes:
        return "regress"
    if target.is_number:
        roles.assumptions.append(f"the {number} numbers in `{name}` are labels; --task regress predicts a number")
        return "classify"
    if separator is not None:
        roles.assumptions.append(
            f"`{name}` has several labels separated by `{separator}`; --task classify takes each value as one label"
        )
        return "multilabel"
    return "classify"


def _target_columns(columns: Mapping[str, Profile], asked: Asked, source: str, roles: Roles) -> Sequence[str]:
    """The column of the target, or several of 0 and 1; or an empty list."""
    truths = [name for name, profile in columns.items() if profile.is_truth and profile.is_filled]
    if len(truths) > 2 and asked.task in (None, "multilabel"):
        roles.assumptions.append(f"the columns {listed(truths)} are labels; --label names one or several of them")
        return truths
    choices = [
        name
        for name, profile in columns.items()
        if profile.num_filled
        and (profile.has_classes or profile.is_list or profile.separator or name.lower() in _TARGET_NAMES
             or (asked.task == "regress" and profile.is_number))
    ]  # fmt: skip
    if asked.task == "regress":
        choices = [name for name in choices if columns[name].is_number]
    named = [name for name in choices if name.lower() in _TARGET_NAMES]
    if len(choices) > 1 and len(named) != 1:
        shown = ", ".join(f"{name} ({len(columns[name].counts):,} values)" for name in choices[:10])
        raise DataError(f"which column of {source} is the label? Pass --label COLUMN; there are {shown}.")
    if not choices:
        return ()
    name = (named or choices)[0]
    if len(choices) > 1:
        others = listed([other for other in choices if other != name])
        roles.assumptions.append(f"`{name}` is the label, not {others}; --label overrides that")
    return (name,)


def _suggest_group(columns: Mapping[str, Profile], roles: Roles) -> None:
    for name, profile in columns.items():
        is_used = name in roles.columns.values() or name in (roles.columns.get("labels") or ())
        repeats = profile.num_filled / max(1, len(profile.counts)) >= 1.5 and len(profile.counts) >= 10
        if (
            not is_used
            and repeats
            and name.lower().removesuffix("_id") in ("author", "user", "customer", "thread", "group")
        ):
            roles.assumptions.append(f"texts of one `{name}` may be in two splits; --group {name} keeps them together")
