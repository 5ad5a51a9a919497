"""Runs git and DVC for a shelf.

A shelf is someone else's repository: nothing in it may run a command or change a setting here. Git runs without hooks,
submodules and transports that start commands. It never checks out files of a shelf and never prompts. DVC runs only in
private repositories with settings that `storage` wrote.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from typing import Literal

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.names import SCHEMES, printable

NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
_HARDENING = (*NO_HOOKS, "-c", "protocol.ext.allow=never", "-c", "core.symlinks=false", "-c", "submodule.recurse=false")
_GIT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES), "GIT_LFS_SKIP_SMUDGE": "1"}
# Set inside git's own hooks: they would redirect git to another repository.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")


def run(
    program: Literal["git", "dvc"],
    *arguments: str,
    at: Path,
    accept: Sequence[int] = (0,),
    max_bytes: int | None = None,
) -> str:
    """Runs git or DVC and returns its output.

    Args:
        arguments: names from users and shelves must follow `--`, or have passed a check of `names`.
        at: working directory; for DVC a private repository.
        accept: exit codes that are not errors.
        max_bytes: largest file that the command may write.

    Raises:
        ShelfError: the program is not installed, or failed.
    """
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        remedy = "Run `pip install 'cclm-core[shelf]'`, or add it to PATH." if program == "dvc" else "Install it."
        raise ShelfError(f"the command `{program}` was not found; a shelf needs it. {remedy}")
    # DVC's default for its site cache is writable by every user, and DVC unpickles the files in it.
    own = _GIT | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(at / ".dvc" / "tmp" / "site")}
    process = subprocess.run(
        [path, *(_HARDENING if program == "git" else ()), *arguments],
        cwd=at,
        env={variable: value for variable, value in os.environ.items() if variable not in _MISLEADING} | own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        preexec_fn=None if max_bytes is None else partial(setrlimit, RLIMIT_FSIZE, (max_bytes, max_bytes)),
    )
    if process.returncode not in accept:
        message = printable(process.stderr.decode("utf-8", "replace")).strip() or f"exit code {process.returncode}"
        action = next(argument for argument in arguments if not argument.startswith("-"))
        raise ShelfError(f"{program} {action} failed: {message}")
    return process.stdout.decode("utf-8", "replace")
