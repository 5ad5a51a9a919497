"""Checkpoints whose bytes are not those that were written."""

import re
from collections.abc import Iterator
from pathlib import Path

from cclm_core.runtime.artifacts import file_digest
from flows import processes
from flows.doctor.finding import Finding, Project

NAME = re.compile(r"step-\d+-([0-9a-f]{32})\.safetensors")


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each checkpoint that does not match the digest in its name; training passes over it."""
    folder = project.root / ".cclm" / "checkpoints"
    for path in sorted(folder.glob("*/*/step-*.safetensors")):
        if processes.holder(folder / f".{path.parts[-3]}.lock") is not None:  # it is being trained
            continue
        named = NAME.fullmatch(path.name)
        if named is None or file_digest(path)[:32] != named[1]:
            yield Finding(
                subject=str(path.relative_to(project.root)),
                problem="its bytes are not those that its name promises: a disk or someone changed them",
                since=path.stat().st_mtime,
                remedy="removes it: training goes on from the one before it",
                repair=lambda path=path: _remove(path),  # type: ignore[misc]
            )


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return "removed it"
