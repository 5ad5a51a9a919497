"""Checks of files: leftovers of killed stages, damaged checkpoints, free disk space."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.files import flush_folder
from flows import processes
from flows.doctor.finding import Finding, Inspection
from flows.graph.dvc_private import is_valid_lock, recorded_outputs
from flows.tracking.open_runs import damaged_records

CHECKPOINT = re.compile(r"step-\d+-([0-9a-f]{32})\.safetensors")
# A run needs space for a new output next to the old one, in DVC's cache and, for a composition, in MLflow's artifacts.
COPIES = 3
MEGABYTE = 1_000_000


def half_written(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each output with a stale `.NAME.writing` or `.NAME.old` next to it."""
    root = inspection.project.root
    for out in (root / name for node in inspection.plan.nodes.values() for name in node.outs):
        leftovers = [path for path in _leftovers(out) if path.exists()]
        if leftovers and processes.lock_holder(_lock(out)) is None:
            yield Finding(
                subject=str(out.relative_to(root)),
                problem=f"a killed process left {', '.join(path.name for path in leftovers)} next to it",
                since=max(path.stat().st_mtime for path in leftovers),
                remedy="restores the old output if there is no new one; deletes the rest",
                repair=lambda out=out: _clean(out),  # type: ignore[misc]
            )


def open_records(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each record of an open run that cannot be read."""
    for path in damaged_records(inspection.project):
        yield Finding(
            subject=str(path.relative_to(inspection.project.root)),
            problem="it is damaged, so nobody can tell which run it recorded as open",
            since=path.stat().st_mtime,
            remedy="deletes it; runs that are still open are found by `tracked-runs` and `flow-runs`",
            repair=lambda path=path: _delete(path),  # type: ignore[misc]
        )


def checkpoints(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each checkpoint that does not match the digest in its name. Training skips such files."""
    root = inspection.project.root
    folder = root / ".cclm" / "checkpoints"
    for path in sorted(folder.glob("*/*/step-*.safetensors")):
        if processes.lock_holder(folder / f".{path.parts[-3]}.lock") is not None:  # a training is using it
            continue
        name = CHECKPOINT.fullmatch(path.name)
        if name is None or file_digest(path)[:32] != name[1]:
            yield Finding(
                subject=str(path.relative_to(root)),
                problem="its content does not match the digest in its name",
                since=path.stat().st_mtime,
                remedy="deletes it; training resumes from the previous checkpoint",
                repair=lambda path=path: _delete(path),  # type: ignore[misc]
            )


def disk_space(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding if the disk is too small for another set of the last run's outputs and checkpoints."""
    project = inspection.project
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    if not is_valid_lock(content):
        return
    outputs = sum(int(out.get("size", 0)) for out in recorded_outputs(content))
    folder = project.root / ".cclm" / "checkpoints"
    needed = COPIES * outputs + sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    free = shutil.disk_usage(project.root).free
    if free < needed:
        yield Finding(
            subject=f"the disk of {project.root}",
            problem=f"{free // MEGABYTE:,} MB are free, but a run of all stages needs {needed // MEGABYTE:,} MB",
            remedy="free some space; for example, `dvc gc --workspace` deletes outputs of earlier versions",
        )


def _leftovers(out: Path) -> tuple[Path, Path]:
    return out.with_name(f".{out.name}.writing"), out.with_name(f".{out.name}.old")


def _lock(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


def _clean(out: Path) -> str:
    writing, old = _leftovers(out)
    with FileLock(_lock(out), timeout=0):
        restored = old.exists() and not out.exists()
        if restored:
            old.rename(out)
        for path in (writing, old):
            shutil.rmtree(path, ignore_errors=True)
        flush_folder(out.parent)
    return "restored the old output" if restored else "deleted them"


def _delete(path: Path) -> str:
    path.unlink(missing_ok=True)
    return "deleted it"
