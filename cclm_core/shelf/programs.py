"""The two programs that a shelf needs, run as commands: git and DVC.

A shelf is a stranger's repository: nothing in it may run a command or change a setting here. Git runs without hooks,
submodules and transports that start commands, never checks out a shelf's files and never asks anything. DVC runs only
in private repositories whose settings `storage` wrote.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.names import SCHEMES, printable

NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
_HARDENING = (*NO_HOOKS, "-c", "protocol.ext.allow=never", "-c", "core.symlinks=false", "-c", "submodule.recurse=false")
_ENVIRONMENT = {
    **{"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES), "GIT_LFS_SKIP_SMUDGE": "1"},
    "DVC_NO_ANALYTICS": "1",
}
# Set inside git's own hooks: they would lead to another repository than the requested one.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")


def git(*arguments: str, at: Path, accept: Sequence[int] = (0,)) -> bytes:
    """Runs git in the folder `at` and returns its output; exit codes in `accept` are not errors.

    Names from users and shelves must come after `--`, or have been checked by `names`.

    Raises:
        ShelfError: git is not installed, or failed.
    """
    return _run(("git", *arguments), _HARDENING, at, accept)


def dvc(*arguments: str, at: Path, max_bytes: int = RLIM_INFINITY) -> bytes:
    """Runs DVC in the private repository `at`, where no file may grow larger than `max_bytes`; returns its output.

    Raises:
        ShelfError: DVC is not installed, or failed.
    """
    return _run(("dvc", *arguments), (), at, (0,), max_bytes)


def _run(
    command: tuple[str, ...], options: tuple[str, ...], at: Path, accept: Sequence[int], max_bytes: int = RLIM_INFINITY
) -> bytes:
    name, *arguments = command
    program = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if program is None:
        raise ShelfError(f"the command `{name}` must be installed to use a shelf; install it, or add it to PATH.")
    # DVC's default for its site cache is writable by every user, and DVC unpickles what it finds there.
    own = _ENVIRONMENT | {"DVC_SITE_CACHE_DIR": str(at / ".dvc" / "tmp" / "site")}
    done = subprocess.run(
        [program, *options, *arguments],
        cwd=at,
        env={variable: value for variable, value in os.environ.items() if variable not in _MISLEADING} | own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        preexec_fn=partial(setrlimit, RLIMIT_FSIZE, (max_bytes, max_bytes)) if max_bytes != RLIM_INFINITY else None,
    )
    if done.returncode not in accept:
        message = printable(done.stderr.decode("utf-8", "replace")).strip() or f"exit code {done.returncode}"
        action = next(argument for argument in arguments if not argument.startswith("-"))
        raise ShelfError(f"{name} {action} failed: {message}")
    return done.stdout
