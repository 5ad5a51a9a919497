"""Progress of a running stage, and the one way to format figures for people.

A stage calls `report(step, {name: value})` and does not know who reads it: a JSONL file that the pipeline follows, a
progress bar, lines on standard error, or nothing. Times and facts about the host belong in reports, never in outputs.

```
format_number(value)        61152 -> "61.2 k"
format_duration(seconds)    200 -> "3 min 20 s"
format_values(values)       {"loss": 2.5, "fit_seconds": 200} -> "loss 2.50  fit 3 min 20 s"
```
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0
_SECONDS = "_seconds"  # the suffix of values that are durations


class Report(Protocol):
    """Receives the `values` measured at `step`, counted up to `total` (None if unknown)."""

    def __call__(self, step: int, values: Mapping[str, float], total: int | None = None) -> None: ...


def null_report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
    """A `Report` that does nothing."""


def format_number(value: float) -> str:
    """Three significant digits; large numbers in thousands, millions or billions; small whole numbers unchanged.

    >>> [format_number(value) for value in (0.58964, 2.7461, 384, 61152, 1234567, 0.00003)]
    ['0.590', '2.75', '384', '61.2 k', '1.23 M', '3.00e-05']
    """
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if math.inf > abs(value) >= max(10_000, 0.9995 * factor):
            return f"{value / factor:#.3g}".rstrip(".") + f" {unit}"
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:.0f}"


def format_share(value: float) -> str:
    """A share in percent, with more decimals below one percent.

    >>> [format_share(value) for value in (0, 0.0000331, 0.01234, 0.4567, 1)]
    ['0.000%', '0.003%', '1.2%', '45.7%', '100.0%']
    """
    return f"{value:.3%}" if value < 0.01 else f"{value:.1%}"


def format_duration(seconds: float) -> str:
    """A duration in the two largest units that it fills.

    >>> [format_duration(seconds) for seconds in (0.0312, 7.25, 42, 200, 3900, 180_000)]
    ['31 ms', '7.2 s', '42 s', '3 min 20 s', '1 h 5 min', '2 d 2 h']
    """
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    rest = round(seconds)
    for (unit, length), (next_unit, next_length) in pairwise(units):
        if rest >= length:
            return f"{rest // length} {unit} {rest % length // next_length} {next_unit}"
    return f"{rest} s"


def format_values(values: Mapping[str, float]) -> str:
    """Names and figures in one line; a value named `*_seconds` is a duration.

    >>> format_values({"loss": 2.5, "characters_per_second": 61152, "fit_seconds": 200})
    'loss 2.50  characters_per_second 61.2 k  fit 3 min 20 s'
    """
    return "  ".join(
        f"{name.removesuffix(_SECONDS)} {format_duration(value)}"
        if name.endswith(_SECONDS)
        else f"{name} {format_number(value)}"
        for name, value in values.items()
    )


@contextmanager
def reporting(name: str, path: Path | None, bar: bool | None = None) -> Iterator[Report]:
    """A report that appends to a JSONL file and shows progress: a bar on a terminal, otherwise lines.

    Args:
        name: what is running, such as `pretrain@entities`.
        path: receives one JSON object per line: `time` (Unix seconds), `step`, `total`, `values`; None for no file.
        bar: whether to draw a bar on standard error; None draws one if standard error is a terminal.
    """
    console = Console(stderr=True)
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("a", encoding="utf-8")) if path else None
        progress = _bar(console) if (console.is_terminal if bar is None else bar) else None
        task = None
        if progress:
            stack.enter_context(progress)
            task = progress.add_task(name, total=None, values="")
        started = time.time()
        last_line = float("-inf")

        def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
            """Writes and shows the values of one step."""
            nonlocal last_line
            now = time.time()
            if stream:
                line = {"time": now, "step": step, "total": total, "values": dict(values)}
                stream.write(json.dumps(line) + "\n")
                stream.flush()
            figures = format_values(values)
            if progress and task is not None:
                progress.update(task, completed=step, total=total, values=figures)
            elif now - last_line >= _LINE_SECONDS or step == total:
                last_line = now
                position = f"step {step} of {total}" if total else f"step {step}"
                print(
                    f"{name}: {position} after {format_duration(now - started)}  {figures}".rstrip(),
                    file=sys.stderr,
                    flush=True,
                )

        yield report


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[values]}"), console=console, transient=False)
