"""The project that the pipeline runs in: its root, and `.cclm/`, the state that is not an output.

```
.cclm/             only this user can read it
├── checkpoints/   training state, so that a retry resumes
├── clones/        clones in which a worker without the shared disk trains
├── downloads/     archives of the sources
├── dvc/           DVC's site cache (core.site_cache_dir)
├── locks/, slots/ locks that the operating system frees when a process dies
├── logs/          the output of each stage
├── open/          runs in MLflow and Prefect that are not closed yet, and the process that must close them
├── prefect/       Prefect's database, if no server is configured
├── pushed.json    what was last pushed to DVC's remote
├── remote/        DVC's default remote, until another address is configured
├── reports/       the learning curve of each stage, as it runs (JSONL)
└── stages/        one record per stage: when it ran, how it ended, where it is tracked
```
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import ConfigError


@dataclass(frozen=True)
class Project:
    """A folder with dvc.yaml.

    The plan and the connection to MLflow are not attributes: `flows.graph.plan.read_plan(project)` and
    `flows.tracking.client.connect(project)` need the project themselves.

    Attributes:
        root: the folder, absolute.
    """

    root: Path

    @classmethod
    def find(cls) -> "Project":
        """The project of this process: `DVC_ROOT`, which DVC sets for its commands, otherwise the nearest folder
        with dvc.yaml, from the working directory upwards.

        Raises:
            ConfigError: no folder on the way up holds dvc.yaml.
        """
        if os.environ.get("DVC_ROOT"):
            return cls(Path(os.environ["DVC_ROOT"]))
        here = Path.cwd().resolve()
        for folder in (here, *here.parents):
            if (folder / "dvc.yaml").is_file():
                return cls(folder)
        raise ConfigError(f"dvc.yaml not found in {here} or a folder above it. Change to the project's folder.")

    @property
    def params_file(self) -> Path:
        """params.yaml: the numbers of the pipeline."""
        return self.root / "params.yaml"

    @property
    def lock_file(self) -> Path:
        """dvc.lock: the inputs and outputs of every stage that DVC has recorded."""
        return self.root / "dvc.lock"

    @property
    def run_lock(self) -> Path:
        """The lock that a run of the pipeline holds: two runs would overwrite each other's outputs."""
        return self.state("locks") / "run.lock"

    def state(self, *parts: str) -> Path:
        """The folder `.cclm/<parts>`; it is created if it is missing.

        `.cclm` itself is closed to other users: DVC keeps pickles in its site cache, so anyone who can write there
        can run code as this user (CVE-2025-69872).
        """
        top = self.root / ".cclm"
        top.mkdir(mode=0o700, exist_ok=True)
        if top.stat().st_mode & 0o077:
            top.chmod(0o700)
        folder = top.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stage_file(self, kind: str, stage: str, suffix: str) -> Path:
        """The file of a stage in `.cclm/<kind>/`, e.g. `.cclm/reports/pretrain@entities.jsonl`."""
        return self.state(kind) / f"{stage.replace('/', '_')}{suffix}"

    def git_revision(self) -> tuple[str, bool]:
        """The commit that is checked out ("" outside of a repository), and whether tracked files differ from it.

        dvc.lock is ignored: the run that is being recorded writes it.
        """
        commit = self._git("rev-parse", "--verify", "--quiet", "HEAD")
        changed = self._git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
        return commit, bool(changed)

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""
