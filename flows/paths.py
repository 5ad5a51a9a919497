"""Where the pipeline keeps what is no output: everything under `.cclm/`, which no one else can read.

```
.cclm/
├── checkpoints/    training state, so that a retry resumes
├── clones/         where a worker without the shared disk trains
├── downloads/      archives of the sources
├── dvc/            DVC's site cache (core.site_cache_dir)
├── locks/, slots/  locks that the operating system frees when a process dies
├── logs/           what each stage printed
├── open/           what has been opened in MLflow and Prefect, and by which process, until it is closed
├── prefect/        Prefect's database, when no server is configured
├── pushed.json     what was last pushed to DVC's remote
├── remote/         DVC's default remote, until an address takes its place
├── reports/        the learning curve of each stage, as it runs (JSONL)
└── stages/         one record for each stage: when it ran, how it ended, where it is tracked
```
"""

import os
import subprocess
from pathlib import Path

from cclm_core.runtime.errors import ConfigError


def project_root(start: Path | None = None) -> Path:
    """The folder with dvc.yaml: `DVC_ROOT`, which DVC sets for its commands, else the nearest one upwards.

    Raises:
        ConfigError: there is none.
    """
    if start is None and os.environ.get("DVC_ROOT"):
        return Path(os.environ["DVC_ROOT"])
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise ConfigError(f"{here} must be inside a project with dvc.yaml; there is none upwards. Change to the project.")


def state(root: Path, *parts: str) -> Path:
    """The folder `.cclm/<parts>` of the project, made when it is missing.

    `.cclm` itself is closed to other users: DVC keeps pickles in its site cache, and whoever can write them can run
    code as us (CVE-2025-69872).
    """
    top = root / ".cclm"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_mode & 0o077:
        top.chmod(0o700)
    folder = top.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stage_file(root: Path, kind: str, stage: str, suffix: str) -> Path:
    """The file of a stage in `.cclm/<kind>/`, e.g. `.cclm/reports/pretrain@entities.jsonl`."""
    return state(root, kind) / f"{stage.replace('/', '_')}{suffix}"


def git_revision(root: Path) -> tuple[str, bool]:
    """The commit that is checked out ("" outside of a repository) and whether tracked files differ from it.

    dvc.lock does not count: the run that is being recorded writes it.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return commit, bool(changed)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
