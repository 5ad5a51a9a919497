"""Less free disk space than the next whole run may need."""

import shutil
from collections.abc import Iterator

import yaml

from flows.doctor.finding import Finding, Project
from flows.lockfile import NAME, is_whole

# A new output stands beside the old one, in DVC's cache, and as a composition in MLflow's artifacts.
COPIES = 3
MEGABYTE = 1_000_000


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding when the last run's outputs and checkpoints would not find room once more."""
    lock = project.root / NAME
    content = lock.read_bytes() if lock.is_file() else b""
    if not is_whole(content):
        return
    stages = (yaml.safe_load(content).get("stages") or {}).values()
    outputs = sum(int(out.get("size", 0)) for stage in stages for out in stage.get("outs", []))
    folder = project.root / ".cclm" / "checkpoints"
    needed = COPIES * outputs + sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    free = shutil.disk_usage(project.root).free
    if free < needed:
        yield Finding(
            subject=f"the disk of {project.root}",
            problem=f"{free // MEGABYTE:,} MB are free; a run that makes everything anew needs {needed // MEGABYTE:,}",
            remedy="make room, e.g. `dvc gc --workspace` forgets what earlier versions of the pipeline made",
        )
