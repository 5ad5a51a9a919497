"""`cclm init`: looks at a user's files, prints what is in them, and writes params.yaml for them."""

import hashlib
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cclm_core.cli.columns import print_columns
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import CclmError, ConfigError
from cclm_core.runtime.files import atomic_write
from cclm_core.runtime.readers import parse_yaml
from cclm_core.runtime.terminal import printable
from cclm_core.steps.params import Params
from cclm_core.survey.files import DataFile, find_data, name_of, place_files
from cclm_core.survey.plan import Plan, decide_roles, plan_data, texts_file
from cclm_core.survey.roles import Asked
from cclm_core.survey.settings import params_text

PARAMS = "params.yaml"
_WRITTEN = ".cclm/init.sha256"  # the digest of the params.yaml that `cclm init` wrote last
_SHOWN_LABELS, _SHOWN_PROBLEMS = 4, 8


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """The options of `cclm init`.

    Attributes:
        asked: columns and the kind of task.
        test, validation: files, folders and patterns of held-out splits.
        name: the name of the data set and of its task; None for the name of the first file.
        tag_names: names of tags that are numbers.
        encoding: encoding of the files; None to recognize it.
        has_header: whether tables have a header; None to recognize it.
        force: replace a changed params.yaml, and files of the same names in `input`; the old ones are kept.
    """

    asked: Asked = field(default_factory=Asked)
    test: Sequence[str] = ()
    validation: Sequence[str] = ()
    name: str | None = None
    tag_names: Sequence[str] = ()
    encoding: str | None = None
    has_header: bool | None = None
    force: bool = False


def init_project(root: Path, data: Sequence[str], options: InitOptions) -> None:
    """Looks at data, copies it into the folder `input` of a project, and writes its params.yaml.

    Args:
        root: the folder of the project.
        data: files, folders and patterns, relative to the working directory.
        options: see the class.

    Raises:
        ConfigError: params.yaml has changes, and no `force`; or an invalid name.
        DataError: the data cannot be read, or it is not clear what is what. Nothing was changed.
    """
    refuse_changes(root, options.force)
    held_out = {"test": options.test, "validation": options.validation}
    is_text = options.asked.task == "text"
    files, assumptions = find_data(data, held_out, options.encoding, options.has_header, as_lines=is_text)
    roles = decide_roles(files, options.asked)
    assumptions += roles.assumptions
    name = options.name or name_of([file for file in files if file.split == "train"])
    replaced = replaced_folder(root)
    texts = root / texts_file(name)
    is_new = not texts.exists()
    added = place_files(files, root, replaced, options.force)
    try:
        with chdir(root):
            plan = plan_data(files, roles, name, options.tag_names)
        text = params_text(name, plan.ingest, plan.corpus, plan.labeled, _command(data))
        Params(parse_yaml(text, PARAMS)).check()
    except CclmError:
        for path in [*added, *([texts] if is_new else [])]:
            path.unlink(missing_ok=True)
        raise
    kept = write_params(root, text, replaced if options.force else None)
    _show(files, plan, name, assumptions)
    if kept is not None:
        print(f"The former params.yaml is {kept}.")


def project_folder() -> Path:
    """The nearest folder with dvc.yaml, from the working directory upward.

    Raises:
        ConfigError: no such folder exists.
    """
    working_directory = Path.cwd()
    for folder in (working_directory, *working_directory.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise ConfigError(
        f"dvc.yaml not found in {working_directory} or a folder above it. Change to the folder of a clone of CCLM."
    )


def refuse_both(data: Sequence[str], recipe: str | None, options: InitOptions) -> None:
    """Refuses a call with both data and a recipe, or with neither.

    Raises:
        ConfigError: see above.
    """
    if not data and recipe is None:
        raise ConfigError(
            "name your files, such as `cclm init tickets.csv`, or take a recipe: `cclm init --recipe list` lists them."
        )
    if recipe is not None and (data or options != InitOptions(force=options.force)):
        raise ConfigError("--recipe cannot be combined with files or with options about them. Use one or the other.")


def replaced_folder(root: Path) -> Path:
    """The folder for what is replaced now."""
    return root / ".cclm" / "replaced" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def write_params(root: Path, text: str, replaced: Path | None) -> Path | None:
    """Writes params.yaml and remembers that it is from `cclm init`.

    Args:
        root: the folder of the project.
        text: the new content.
        replaced: where to keep the former file; None to keep none.

    Returns:
        The copy of the former file, if any.
    """
    kept = None if replaced is None else _keep(root / PARAMS, replaced)
    atomic_write(root / PARAMS, text)
    (root / _WRITTEN).parent.mkdir(mode=0o700, exist_ok=True)
    atomic_write(root / _WRITTEN, hashlib.sha256(text.encode()).hexdigest())
    return kept


def refuse_changes(root: Path, force: bool) -> None:
    """Refuses to replace a params.yaml that git does not have and that `cclm init` did not write.

    Raises:
        ConfigError: it has such changes, and `force` is not set.
    """
    path = root / PARAMS
    if force or not path.is_file():
        return
    written = root / _WRITTEN
    if written.is_file() and written.read_text("utf-8") == hashlib.sha256(path.read_bytes()).hexdigest():
        return
    try:
        command = ["git", "-C", str(root), "status", "--porcelain", "--", PARAMS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode or done.stdout.strip():
        raise ConfigError(
            f"{PARAMS} has changes that are not in git, which `cclm init` would replace. Commit it, or add --force, "
            "which keeps a copy in .cclm/replaced."
        )


def _keep(path: Path, folder: Path) -> Path | None:
    if not path.is_file():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)
    return folder / path.name


def _command(data: Sequence[str]) -> str:
    return printable(shlex.join(["cclm", "init", *(Path(path).name or path for path in data)]))[:100].replace("\n", " ")


def _show(files: Sequence[DataFile], plan: Plan, name: str, assumptions: Sequence[str]) -> None:
    rows = [("file", "split", "format", "written")]
    for file in files:
        settings = {key: value for key, value in file.layout.settings().items() if key != "format"}
        written = ", ".join(f"{key} {_brief(value)}" for key, value in settings.items()) or "-"
        rows.append((file.target, file.split, file.layout.format_of(file.path), written))
    print_columns(rows)
    _show_corpus(plan)
    if plan.data is not None:
        _show_labeled(plan, name)
    first = plan.corpus.rejected
    problems = [
        f"{count:,} rejected: {reason}, first at {first[reason].file}:{first[reason].line}"
        for reason, count in plan.corpus.num_rejected.most_common()
    ]
    problems = (plan.data.warnings if plan.data is not None else []) or problems
    _show_list("problems", problems)
    _show_list("assumed", assumptions)
    tasks = f" and the tasks {name} and {name}_scratch" if plan.labeled is not None else ""
    print(f"\nWrote {PARAMS} with the corpus{tasks}. Next: `cclm status` shows what would run, `cclm run` runs it.")
    if plan.labeled is not None:
        print(f'Then: echo "a text" | cclm predict {name}' if not _is_pair(plan) else f"Then: cclm predict {name} FILE")


def _show_corpus(plan: Plan) -> None:
    corpus = plan.corpus
    at_least = "" if corpus.is_complete else "at least "
    letters = ", ".join(corpus.layouts)
    print(
        f"\ncorpus: {at_least}{corpus.num_texts:,} texts, {corpus.num_characters:,} characters, "
        f"{len(corpus.characters):,} different ones, keyboards {letters}"
    )


def _show_labeled(plan: Plan, name: str) -> None:
    assert plan.data is not None and plan.labeled is not None
    metrics, splits = plan.data.metrics, plan.data.splits
    print(f"task {name}: {plan.labeled['task']}{' on pairs' if _is_pair(plan) else ''}, columns {_columns(plan)}\n")
    rows = [("", *splits)]
    figures = {split: metrics["splits"][split] for split in splits}
    rows.append(("texts", *(f"{figures[split]['texts']:,}" for split in splits)))
    rows.append(("characters per text: median", *(_length(splits[split], median=True) for split in splits)))
    rows.append(("characters per text: most", *(_length(splits[split], median=False) for split in splits)))
    rows.append(("repeated texts", *(f"{metrics['repeated_texts'][split]:,}" for split in splits)))
    if metrics["splits"]["train"]["groups"]:
        rows.append(("groups", *(f"{figures[split]['groups']:,}" for split in splits)))
    if "value" in figures["train"]:
        rows.append(("value: mean", *(f"{figures[split]['value']['mean']:g}" for split in splits)))
        ranges = (figures[split]["value"] for split in splits)
        rows.append(("value: from, to", *(f"{value['min']:g}, {value['max']:g}" for value in ranges)))
    else:
        rows.append(("labels", *(f"{len(figures[split]['labels']):,}" for split in splits)))
        for index, (label, count) in enumerate(figures["train"]["labels"]):
            if index < _SHOWN_LABELS or index == len(figures["train"]["labels"]) - 1:
                others = (dict(figures[split]["labels"]).get(label, 0) for split in list(splits)[1:])
                rows.append((f"  {printable(label)[:40]}", f"{count:,}", *(f"{other:,}" for other in others)))
            elif index == _SHOWN_LABELS:
                rows.append(("  ...", *("" for _ in splits)))
    print_columns(rows)


def _columns(plan: Plan) -> str:
    columns = plan.roles.columns
    pairs = [f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in columns.items()]
    return ", ".join(pairs) or "of CoNLL"


def _is_pair(plan: Plan) -> bool:
    return "second" in plan.roles.columns


def _length(texts: Sequence[LabeledText], median: bool) -> str:
    lengths = [len(text.text) + len(text.second or "") for text in texts]
    return f"{int(statistics.median(lengths)) if median else max(lengths):,}"


def _show_list(title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    print(f"\n{title}:")
    for line in lines[:_SHOWN_PROBLEMS]:
        print(f"  {printable(line)}")
    if len(lines) > _SHOWN_PROBLEMS:
        print(f"  and {len(lines) - _SHOWN_PROBLEMS} more")


def _brief(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else repr(value)
