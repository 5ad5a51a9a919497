"""What a killed stage left of an output that it was writing: `.NAME.writing`, and `.NAME.old` of what it replaced."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from cclm_core.runtime.files import flush_folder
from flows import processes
from flows.doctor.finding import Finding, Project


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each output that nobody is writing and that has such leftovers."""
    for out in (project.root / name for node in project.plan.nodes.values() for name in node.outs):
        left = [path for path in _leftovers(out) if path.exists()]
        if left and processes.holder(_lock(out)) is None:
            yield Finding(
                subject=str(out.relative_to(project.root)),
                problem=f"a killed process left {', '.join(path.name for path in left)} beside it",
                since=max(path.stat().st_mtime for path in left),
                remedy="puts the old one back if it was moved away and nothing took its place; removes the rest",
                repair=lambda out=out: _repair(out),  # type: ignore[misc]
            )


def _leftovers(out: Path) -> tuple[Path, Path]:
    return out.with_name(f".{out.name}.writing"), out.with_name(f".{out.name}.old")


def _lock(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


def _repair(out: Path) -> str:
    beside, old = _leftovers(out)
    with FileLock(_lock(out), timeout=0):
        put_back = old.exists() and not out.exists()
        if put_back:
            old.rename(out)
        for path in (beside, old):
            shutil.rmtree(path, ignore_errors=True)
        flush_folder(out.parent)
    return "put the old one back" if put_back else "removed them"
