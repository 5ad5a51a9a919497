"""How a stage tells what it does while it runs: one callable, injected, that knows no tracker.

A stage calls `report(step, {name: value})`. Where the reports go is decided by whoever starts it: a JSONL
file that the pipeline follows, a progress bar, or nothing. Times and host facts go here, never into outputs.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Report(Protocol):
    """Receives `values` measured at `step`, of `total` steps where the caller knows how many there are."""

    def __call__(self, step: int, values: Mapping[str, float], total: int | None = None) -> None: ...


def silent(step: int, values: Mapping[str, float], total: int | None = None) -> None:
    """A report that nobody reads."""


@contextmanager
def reporting(name: str, path: Path | None, bar: bool | None = None) -> Iterator[Report]:
    """A report that writes to a JSONL file and, on a terminal, moves a progress bar; else it logs lines.

    Args:
        name: what is running, e.g. `pretrain@entities`.
        path: a file that gets one JSON object a line: `time` (Unix seconds), `step`, `total`, `values`.
        bar: whether to draw a bar on standard error; None asks whether it is a terminal.
    """
    console = Console(stderr=True)
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("a", encoding="utf-8")) if path else None
        progress = _bar(console) if (console.is_terminal if bar is None else bar) else None
        task = None
        if progress:
            stack.enter_context(progress)
            task = progress.add_task(name, total=None, values="")
        last_line = float("-inf")

        def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
            nonlocal last_line
            now = time.time()
            if stream:
                line = {"time": now, "step": step, "total": total, "values": dict(values)}
                stream.write(json.dumps(line) + "\n")
                stream.flush()
            shown = " ".join(f"{key} {value:.4g}" for key, value in values.items())
            if progress and task is not None:
                progress.update(task, completed=step, total=total, values=shown)
            elif now - last_line >= 5 or step == total:
                last_line = now
                print(f"{name} step {step}{f'/{total}' if total else ''} {shown}", file=sys.stderr, flush=True)

        yield report


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[values]}"), console=console, transient=False)
