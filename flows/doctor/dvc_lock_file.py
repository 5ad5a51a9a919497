"""A dvc.lock that was cut off while DVC wrote it, or is empty."""

from collections.abc import Iterator

from flows.doctor.finding import Finding, Project
from flows.lockfile import NAME, is_whole, mend


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding when dvc.lock cannot be read; while a run works on it, it may be half written."""
    path = project.root / NAME
    if project.working or not path.is_file() or is_whole(path.read_bytes()):
        return

    def repair() -> str:
        mend(project.root)
        return "put its newest whole copy back" if path.is_file() else "moved it away; DVC's run cache knows the rest"

    yield Finding(
        subject=NAME,
        problem="it is cut off or empty, so DVC cannot tell what is up to date",
        since=path.stat().st_mtime,
        remedy="puts back the newest whole copy that `cclm run` kept, or moves it away where there is none",
        repair=repair,
    )
