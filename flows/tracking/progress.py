"""Displays a running pipeline: a progress bar per running stage on a terminal, otherwise a line every few seconds.

It reads the records and reports of the stages, so it works no matter which process drives the run.
"""

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cclm_core.runtime.reporting import format_duration, format_number
from flows.project import Project
from flows.tracking.records import Reports, StageRecord, read_record, reports_path

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0


class Display:
    """Context manager that displays the progress of stages.

    Args:
        stages: names of the stages.
        since: Unix seconds. Stage runs that started earlier are not shown.
        console: where to print.
    """

    def __init__(self, project: Project, stages: Iterable[str], since: float, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[values]}"), console=console, transient=True)
        self.stages = [_Stage(project, name, since, self) for name in stages]
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.progress.start()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        self.progress.stop()

    def print_line(self, text: str) -> None:
        """Prints a line above the progress bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _loop(self) -> None:
        while not self.stop.wait(POLL_SECONDS):
            self._update()
        self._update()

    def _update(self) -> None:
        for stage in self.stages:
            stage.update()


class _Stage:
    """The display of one stage."""

    def __init__(self, project: Project, name: str, since: float, display: Display) -> None:
        self.project, self.name, self.since, self.display = project, name, since, display
        self.started: float | None = None
        self.ended = False
        self.bar: TaskID | None = None
        self.reports = Reports(reports_path(project, name))
        self.next_line = 0.0

    def update(self) -> None:
        """Reads the record and the reports, and displays new ones."""
        record = read_record(self.project, self.name)
        if record is None or record.started < self.since:
            return
        if record.started != self.started:  # started, or retried
            self.started, self.ended = record.started, False
            self.reports.position = 0
            self.next_line = time.time() + LINE_SECONDS
            if self.display.console.is_terminal:
                self.bar = self.display.progress.add_task(self.name, total=None, values="")
            self.display.print_line(f"{self.name}: started")
        lines = self.reports.new()
        if lines and not self.ended:
            self._show(lines[-1])
        if record.ended is not None and not self.ended:
            self._end(record, record.ended)

    def _show(self, line: dict[str, Any]) -> None:
        reported = [(name, value) for name, value in line["values"].items() if name != "step"]
        values = "  ".join(f"{name} {format_number(value)}" for name, value in reported[:3])
        if self.bar is not None:
            self.display.progress.update(self.bar, completed=line["step"], total=line["total"], values=values)
        elif time.time() >= self.next_line:
            self.next_line = time.time() + LINE_SECONDS
            total = f"/{line['total']}" if line["total"] else ""
            self.display.print_line(f"{self.name}: step {line['step']}{total}  {values}")

    def _end(self, record: StageRecord, ended: float) -> None:
        self.ended = True
        if self.bar is not None:
            self.display.progress.remove_task(self.bar)
            self.bar = None
        failure = f"failed with exit code {record.exit_code}"
        outcome = {"FINISHED": "done", "KILLED": "stopped"}.get(record.status, failure)
        self.display.print_line(f"{self.name}: {outcome} after {format_duration(ended - record.started)}")
