"""Runs git and DVC for a shelf.

A shelf is someone else's repository: nothing in it may run a command or change a setting here. Git runs without hooks,
submodules and transports that start commands. It never checks out files of a shelf and never prompts. DVC runs only in
private repositories with settings that `storage` wrote.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from typing import Literal

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.runtime.terminal import printable
from cclm_core.shelf.names import SCHEMES

# For git commands that read the settings of a local shelf, which may be a stranger's: these settings run commands.
SAFE = (
    *("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"),
    *("-c", "core.alternateRefsCommand=true", "-c", "gc.auto=0", "-c", "receive.autogc=false"),
)
_HARDENING = (
    *SAFE,
    "-c",
    "submodule.recurse=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "core.symlinks=false",
    "-c",
    "core.fileMode=false",
)
_GIT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES),
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_LAZY_FETCH": "1",  # a partial clone names a command or address from which git gets what is missing
}
# Set inside git's own hooks: they would redirect git to another repository.
_MISLEADING = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"),
    *("GIT_NAMESPACE", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ATTR_SOURCE"),
)
POLL = 0.2  # seconds between two measurements of `max_total`


def run(
    program: Literal["git", "dvc"],
    *arguments: str,
    at: Path,
    accept: Sequence[int] = (0,),
    max_file: int | None = None,
    max_total: int | None = None,
    index: Path | None = None,
) -> str:
    """Runs git or DVC and returns its output.

    Args:
        arguments: names from users and shelves must follow `--`, or have passed a check of `names`.
        at: working directory; for DVC a private repository.
        accept: exit codes that are not errors.
        max_file: bytes of the largest file that the command may write.
        max_total: bytes that all files below `at` may have; the command is stopped soon after it exceeds them.
        index: git's index file (default: the repository's own).

    Raises:
        ShelfError: the program is not installed, or failed.
        IntegrityError: it tried to write more than allowed.
    """
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        remedy = "Run `pip install 'cclm-core[shelf]'`, or add it to PATH." if program == "dvc" else "Install it."
        raise ShelfError(f"the command `{program}` was not found; a shelf needs it. {remedy}")
    # DVC's default for its site cache is writable by every user, and DVC unpickles the files in it.
    own = _GIT | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(at / ".dvc" / "tmp" / "site")}
    own |= {} if index is None else {"GIT_INDEX_FILE": str(index)}
    process = subprocess.Popen(
        [path, *(_HARDENING if program == "git" else ()), *arguments],
        cwd=at,
        env={variable: value for variable, value in os.environ.items() if variable not in _MISLEADING} | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=None if max_file is None else partial(setrlimit, RLIMIT_FSIZE, (max_file, max_file)),
    )
    action = next(argument for argument in arguments if not argument.startswith("-"))
    output, errors = _finish(process, at, max_total)
    if process.returncode in accept:
        return output.decode("utf-8", "replace")
    message = printable(errors.decode("utf-8", "replace")).strip() or f"exit code {process.returncode}"
    if max_file is not None and (f"[Errno {errno.EFBIG}]" in message or process.returncode == -signal.SIGXFSZ):
        raise IntegrityError(f"{program} {action} was stopped: a file is larger than {max_file:,} bytes. {message}")
    raise ShelfError(f"{program} {action} failed: {message}")


def _finish(process: subprocess.Popen[bytes], folder: Path, max_total: int | None) -> tuple[bytes, bytes]:
    """Waits for a process; returns its output and its error messages. Kills it if an error is raised."""
    try:
        while True:
            try:
                return process.communicate(timeout=None if max_total is None else POLL)
            except subprocess.TimeoutExpired:
                if max_total is not None and (total := _size(folder)) > max_total:
                    raise IntegrityError(
                        f"the storage sent {total:,} bytes or more, but the card promises less than {max_total:,}."
                    ) from None
    finally:
        if process.poll() is None:
            process.kill()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()  # its own children can hold the other end
            process.wait()


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, while another process writes it."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(parent) / name).st_size
    return total
