"""Who can write DVC's site cache: DVC unpickles what it finds there, so whoever can write it runs code as us.

Source: CVE-2025-69872 (diskcache, which DVC uses).
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flows.doctor.finding import Finding, Project


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding when others than this user could get at the cache's files."""
    from dvc.repo import Repo

    with Repo(str(project.root)) as repo:
        cache = Path(repo.site_cache_dir)
    if not cache.exists():
        return
    for folder in (cache, *cache.parents):  # DVC itself makes it open to all, so a folder above must be closed
        if _is_private(folder):
            return
    ours = cache.stat().st_uid == os.getuid()
    remedy = "closes it to others" if ours else "none: set core.site_cache_dir in .dvc/config to a folder of your own"
    yield Finding(
        subject=str(cache),
        problem="others can write DVC's site cache, or own it; DVC runs what they put there (CVE-2025-69872)",
        remedy=remedy,
        repair=(lambda: _close(cache)) if ours else None,
    )


def _is_private(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _close(cache: Path) -> str:
    cache.chmod(0o700)
    return "closed it to others"
