"""The project that the pipeline runs in: its root folder and `.cclm/`, which holds state that is not an output.

```
.cclm/             readable only by this user
├── checkpoints/   training state, so that a retry resumes
├── clones/        git clones in which workers without the shared disk train
├── downloads/     archives of the text sources
├── dvc/           DVC's site cache (core.site_cache_dir)
├── locks/, slots/ file locks, which the operating system releases when a process dies
├── logs/          the output of each stage
├── open/          open runs in MLflow and Prefect, each with the process that must close it
├── prefect/       Prefect's database, if no server is configured
├── pushed.json    the last push to DVC's remote
├── remote/        DVC's default remote, until you configure another address
├── report/        the report with the facts of the last run
├── reports/       the learning curve of each stage, written as it runs (JSONL)
└── stages/        one record per stage: when it ran, how it ended, its run in MLflow
```
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cclm_core.runtime.errors import ConfigError


@dataclass(frozen=True)
class Project:
    """A folder with dvc.yaml.

    To get the stage graph, call `flows.graph.plan.read_plan(project)`; for the connection to MLflow,
    `flows.tracking.client.connect(project)`.

    Attributes:
        root: the absolute path of the folder.
    """

    root: Path

    @classmethod
    def find(cls) -> "Project":
        """Finds the project of this process.

        That is `DVC_ROOT`, which DVC sets for its commands; otherwise the working directory or the nearest folder above
        it that contains dvc.yaml.

        Raises:
            ConfigError: dvc.yaml is in none of these folders.
        """
        if os.environ.get("DVC_ROOT"):
            return cls(Path(os.environ["DVC_ROOT"]))
        working_directory = Path.cwd().resolve()
        for folder in (working_directory, *working_directory.parents):
            if (folder / "dvc.yaml").is_file():
                return cls(folder)
        raise ConfigError(
            f"dvc.yaml not found in {working_directory} or a folder above it. Change to the project's folder."
        )

    @property
    def params_file(self) -> Path:
        """params.yaml, the parameters of the pipeline."""
        return self.root / "params.yaml"

    @property
    def lock_file(self) -> Path:
        """dvc.lock, in which DVC records the inputs and outputs of every stage."""
        return self.root / "dvc.lock"

    @property
    def run_lock(self) -> Path:
        """The lock file that a pipeline run holds, because two runs would overwrite each other's outputs."""
        return self.state("locks") / "run.lock"

    def state(self, *parts: str) -> Path:
        """The folder `.cclm/<parts>`, created if missing.

        If the project is read-only, a missing folder is created in a temporary folder instead, which is deleted when
        this process ends: `status`, `lineage` and `doctor` work there.

        Only this user can access `.cclm`: DVC's site cache contains pickles, so anyone who can write to it can run code
        as this user (CVE-2025-69872).
        """
        top = self.root / ".cclm"
        if self.read_only:
            if top.joinpath(*parts).is_dir():
                return top.joinpath(*parts)
            top = _scratch()
        top.mkdir(mode=0o700, exist_ok=True)
        if top.stat().st_mode & 0o077 and not self.read_only:
            top.chmod(0o700)
        folder = top.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def read_only(self) -> bool:
        """Whether this process cannot write to the project's folder."""
        return not os.access(self.root, os.W_OK)

    def require_writable(self, what: str) -> None:
        """Checks that the project can be written.

        Args:
            what: the command that needs it, for the message.

        Raises:
            ConfigError: it is read-only.
        """
        if self.read_only:
            raise ConfigError(
                f"{what} must be able to write to {self.root}, but it is read-only. Copy the project, or change its "
                "permissions; `cclm status`, `cclm lineage` and `cclm doctor` work as it is."
            )

    def stage_file(self, kind: str, stage: str, suffix: str) -> Path:
        """The path of a stage's file, `.cclm/<kind>/<stage><suffix>`: `.cclm/reports/pretrain@entities.jsonl`."""
        return self.state(kind) / f"{stage.replace('/', '_')}{suffix}"

    def git_revision(self) -> tuple[str, bool]:
        """The checked-out commit ("" outside a repository), and whether tracked files have changes.

        Changes to dvc.lock are ignored, because a run writes it.
        """
        commit = self._git("rev-parse", "--verify", "--quiet", "HEAD")
        changed = self._git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
        return commit, bool(changed)

    def commits_since(self, commit: str, limit: int = 20) -> list[str]:
        """The newest commits after `commit`, as `abc1234 subject`; empty if there are none or it is unknown."""
        log = self._git("log", "--oneline", f"--max-count={limit}", f"{commit}..HEAD") if commit else ""
        return log.splitlines()

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""


@cache
def _scratch() -> Path:
    """A private temporary folder for the state of a read-only project."""
    folder = Path(tempfile.mkdtemp(prefix="cclm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
