"""`cclm predict`: the labels, numbers or entities of texts, as a stream."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cclm_core.cli.inputs import Input, Item, Problems, read_items
from cclm_core.cli.outputs import check_out, writing
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.store import load_task
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.reporting import null_report, reporting

_GROUP_TEXTS, _GROUP_CHARACTERS = 1024, 1 << 18
_ENTITY = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("label", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
    ]
)
_ANSWERS: dict[str, list[tuple[str, pa.DataType]]] = {
    "classify": [("label", pa.string()), ("score", pa.float64())],
    "multilabel": [("labels", pa.list_(pa.string()))],
    "regress": [("value", pa.float64())],
    "tag": [("entities", pa.list_(_ENTITY))],
}


def predict(folder: Path, wanted: Input, out: Path | None, with_scores: bool, threads: int) -> Problems:
    """Predicts texts and writes one row per text: `id`, the kept columns, and the answer; see `AnyTaskModel.predict`.

    Args:
        folder: folder of the model of a task.
        wanted: what to read; whether it is pairs is set here.
        out: the output; see `outputs.writing`.
        with_scores: also write the score of every label.
        threads: CPU threads.

    Returns:
        The rows that were left out.

    Raises:
        ConfigError: the name of the output, or a column for a second text that the model does not read.
        DataError: the input cannot be read.
    """
    check_out(out)
    model = load_task(folder).to(select_device())
    if wanted.second is not None and not model.is_pair:
        raise ConfigError(f"--second {wanted.second}: the model {model.name} reads one text. Leave it out.")
    tables = [path for path in wanted.paths if path != "-"] or wanted.stdin_format != "text"
    if model.is_pair and wanted.second is None and tables and not _are_lines(wanted):
        raise ConfigError(f"the model {model.name} reads pairs of texts. Pass --second COLUMN.")
    wanted = Input(**{**vars(wanted), "is_pair": model.is_pair})
    problems = Problems()
    has_scores = with_scores and model.task in ("classify", "multilabel")
    schema = pa.schema(
        [
            ("id", pa.string()),
            *((name, pa.string()) for name in wanted.keep),
            *_ANSWERS[model.task],
            *(
                [("scores", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())])))]
                if has_scores
                else []
            ),
        ]
    )
    is_parquet = out is not None and out.suffix.lower() == ".parquet"
    with num_threads(threads), progress("predict", out) as report, writing(out, schema) as write:
        count = 0
        for group in groups(read_items(wanted, problems)):
            write([_row(item, answer, has_scores, is_parquet) for item, answer in _answers(model, group)])
            count += len(group)
            report(count, {})
        report(count, {}, count)
    return problems


def progress(name: str, out: Path | None) -> Any:
    """A progress bar, if standard error is a terminal and the output does not go to it."""
    if sys.stderr.isatty() and (out is not None or not sys.stdout.isatty()):
        return reporting(name, None)
    return _Silent()


class _Silent:
    """A context without progress."""

    def __enter__(self) -> Any:
        return null_report

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


def groups(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Groups of items of bounded size."""
    group: list[Item] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += len(item.text) + len(item.second or "")
        if len(group) == _GROUP_TEXTS or characters >= _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _are_lines(wanted: Input) -> bool:
    return all(path == "-" or Path(path).suffix.lower() in (".txt", ".text") for path in wanted.paths)


def _answers(model: AnyTaskModel, group: Sequence[Item]) -> Iterator[tuple[Item, dict[str, Any]]]:
    if model.is_pair:
        answers = model.predict([(item.text, str(item.second)) for item in group])
    else:
        answers = model.predict([item.text for item in group])
    return zip(group, answers, strict=True)


def _row(item: Item, answer: dict[str, Any], has_scores: bool, is_parquet: bool) -> dict[str, Any]:
    row = {"id": item.id, **item.kept, **{name: value for name, value in answer.items() if name != "scores"}}
    if has_scores:
        scores = answer["scores"]
        row["scores"] = [{"label": name, "score": score} for name, score in scores.items()] if is_parquet else scores
    return row
