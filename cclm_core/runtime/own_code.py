"""Python files with a user's own building blocks: read, checked, run once per content, and carried by artifacts.

```
with offering([OwnCode.read(Path("blocks/my_head.py"))]):     # the project's own files
    config = BaseConfig.parse(values, "params.yaml: base")    # runs them if a block in them is needed
with carried(folder):                                         # an artifact's files: FOLDER/code/*.py
    config = EmbedderConfig.parse(...)                        # runs them only if they are trusted
```

An artifact that needs a block carries the file that defines it, and its SHA-256 in `code/code.json`. Running a file of
somebody else can do anything, so a carried file runs only if its content is trusted:

* it has run in this process before, because the project or the caller named it;
* the folder `blocks` of the working directory has a file with the same content;
* the caller trusts all carried code: `--trust-code`, `trusting_code()`, or CCLM_TRUST_CODE=1 for other processes.

A file must be complete by itself: it can import installed packages and `cclm_core`, but not other files.
"""

import hashlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.readers import read_bytes, read_json

BLOCKS = "blocks"
"""The folder of a project with its own building blocks. DVC watches it: a changed file reruns training stages."""

CODE = "code"
"""The folder of an artifact with the code that it needs."""

CODE_CARD = "code.json"
TRUST_VARIABLE = "CCLM_TRUST_CODE"

_FORMAT = "cclm-code-1"
_MAX_BYTES = 4 << 20
_REMEDY = "Name a Python file under `code`, such as blocks/my_blocks.py."


@dataclass(frozen=True)
class OwnCode:
    """One file of a user's own code.

    Attributes:
        name: its file name, such as `my_head.py`.
        content: its bytes, exactly what is run and what artifacts carry.
        path: where it was read, in messages.
    """

    name: str
    content: bytes
    path: str

    @classmethod
    def read(cls, path: StrPath) -> "OwnCode":
        """Reads a file without running it.

        Raises:
            ConfigError: it is missing, too large, or not a Python file.
        """
        path = as_path(path)
        if path.suffix != ".py":
            raise ConfigError(f"own code must be a file that ends in .py, got {path}. {_REMEDY}")
        return cls(path.name, read_bytes(path, ConfigError, _REMEDY, _MAX_BYTES), str(path))

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def run(self) -> None:
        """Runs the file, which registers its blocks; does nothing if the same content has run before.

        Raises:
            ConfigError: it raised an exception; the message has its kind, text and line.
        """
        if self.digest in _RAN:
            return
        name = f"cclm_blocks_{self.digest[:16]}"
        module = ModuleType(name)
        module.__file__ = self.path
        sys.modules[name] = module  # so that pickle and pydantic can look up its classes
        _RAN[self.digest] = self
        token = _RUNNING.set(self)
        try:
            exec(compile(self.content, self.path, "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[name], _RAN[self.digest]
            if isinstance(error, ConfigError):
                raise ConfigError(f"{self.path}: {error}") from None
            raise ConfigError(
                f"{self.path} cannot be run: {type(error).__name__}: {error}{_line(error, self.path)}. Correct it."
            ) from error
        finally:
            _RUNNING.reset(token)

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickling runs the file: worker processes unpickle it before the objects whose classes it defines."""
        return _ran, (self.name, self.content, self.path)


_RAN: dict[str, OwnCode] = {}
"""Digest -> the files that have run in this process."""

_RUNNING: ContextVar[OwnCode | None] = ContextVar("running", default=None)
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


@dataclass(frozen=True)
class Offer:
    """Files that may define a block.

    Attributes:
        files: the files.
        folder: the artifact that carries them; None for the project's own files, which are trusted.
        blocks: for an artifact, `FAMILY NAME` -> digest of the file that defines it.
    """

    files: tuple[OwnCode, ...]
    folder: Path | None = None
    blocks: tuple[tuple[str, str], ...] = ()


_OFFERS: ContextVar[tuple[Offer, ...]] = ContextVar("offers", default=())


@contextmanager
def offering(files: Sequence[OwnCode]) -> Iterator[None]:
    """Offers the project's own files: an unknown block in this block of code runs them."""
    token = _OFFERS.set((*_OFFERS.get(), Offer(tuple(files))))
    try:
        yield
    finally:
        _OFFERS.reset(token)


@contextmanager
def carried(folder: Path) -> Iterator[None]:
    """Offers the files that an artifact carries, if any, to what is parsed in this block of code.

    Raises:
        ArtifactError: `code/code.json` is damaged.
        IntegrityError: a file differs from its digest.
    """
    offer = _carried_by(folder)
    token = _OFFERS.set((*_OFFERS.get(), *([] if offer is None else [offer])))
    try:
        yield
    finally:
        _OFFERS.reset(token)


def offers() -> tuple[Offer, ...]:
    """The offers that apply here, innermost first."""
    return _OFFERS.get()[::-1]


@contextmanager
def trusting_code(trusted: bool = True) -> Iterator[None]:
    """Trusts the code that artifacts carry, in this block of code.

    >>> with trusting_code():
    ...     _ = None  # model = load("component-of-a-colleague")
    """
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def trust_code() -> None:
    """Trusts the code that artifacts carry from now on: `--trust-code` of the command line. Child processes do, too."""
    os.environ[TRUST_VARIABLE] = "1"


def require_trust(code: OwnCode, offer: Offer) -> None:
    """Refuses to run a file that an artifact carries unless it is trusted.

    Raises:
        ConfigError: it is not.
    """
    if offer.folder is None or _TRUSTED.get() or os.environ.get(TRUST_VARIABLE) == "1":
        return
    if code.digest in _RAN or code.digest in _own_digests():
        return
    raise ConfigError(
        f"{offer.folder} needs the code in {code.path} (SHA-256 {code.digest[:12]}), which can do anything on this "
        "machine. Read it. To run it, pass --trust-code, in Python `with trusting_code():`, or put a copy of the file "
        f"into {BLOCKS}/."
    )


def running() -> OwnCode | None:
    """The file that is being run, if any."""
    return _RUNNING.get()


def loaded_code() -> tuple[OwnCode, ...]:
    """All files that have run in this process, in order: for worker processes, which have to run them, too."""
    return tuple(_RAN.values())


def write_code(folder: Path, used: Sequence[tuple[str, OwnCode]]) -> None:
    """Writes the files that an artifact needs into `code/` of its folder; nothing if it needs none.

    Args:
        folder: the folder, which is being published.
        used: pairs of a block, `FAMILY NAME`, and the file that defines it.

    Raises:
        ConfigError: two different files have the same name.
    """
    if not used:
        return
    (folder / CODE).mkdir(exist_ok=True)
    blocks = _blocks_in(folder / CODE / CODE_CARD)
    names = {str(entry["file"]): str(entry["sha256"]) for entry in blocks.values()}
    for block, code in used:
        if names.setdefault(code.name, code.digest) != code.digest:
            raise ConfigError(f"two files with own code are named {code.name}, in one model. Rename one.")
        (folder / CODE / code.name).write_bytes(code.content)
        blocks[block] = {"file": code.name, "sha256": code.digest}
    write_json(folder / CODE / CODE_CARD, {"format": _FORMAT, "blocks": dict(sorted(blocks.items()))})


def _ran(name: str, content: bytes, path: str) -> OwnCode:
    code = OwnCode(name, content, path)
    code.run()
    return code


def _carried_by(folder: Path) -> Offer | None:
    blocks = _blocks_in(folder / CODE / CODE_CARD)
    if not blocks:
        return None
    files: dict[str, OwnCode] = {}
    for entry in blocks.values():
        name, expected = str(entry["file"]), str(entry["sha256"])
        if Path(name).name != name:
            raise ArtifactError(f"{folder / CODE / CODE_CARD}: a file must be in the same folder, got {name!r:.80}.")
        if name not in files:
            path = folder / CODE / name
            files[name] = OwnCode(name, read_bytes(path, max_bytes=_MAX_BYTES), str(path))
        if files[name].digest != expected:
            raise IntegrityError(
                f"{folder / CODE / name} was altered: its SHA-256 must be {expected[:12]}, got "
                f"{files[name].digest[:12]}. Fetch or train the model again."
            )
    pairs = tuple((block, str(entry["sha256"])) for block, entry in blocks.items())
    return Offer(tuple(files.values()), folder, pairs)


def _blocks_in(path: Path) -> dict[str, dict[str, Any]]:
    """Block -> its file and digest, from a code.json; empty without such a file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    blocks = content.get("blocks")
    if content.get("format") != _FORMAT or not isinstance(blocks, dict):
        raise ArtifactError(
            f"{path} must have format {_FORMAT} and the object `blocks`. Fetch or train the model again."
        )
    for block, entry in blocks.items():
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file", "sha256")):
            raise ArtifactError(f"{path}: {block} must have `file` and `sha256`. Fetch or train the model again.")
    return blocks


def _own_digests() -> set[str]:
    """The digests of the files in `blocks` of the working directory, which are the user's own."""
    folder = Path(BLOCKS)
    files = sorted(folder.glob("*.py")) if folder.is_dir() else []
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def _line(error: Exception, path: str) -> str:
    """The line of a file that raised an error, for messages; empty if it is not known."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.filename == path and "line" not in str(error) else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" (line {lines[-1]})" if lines else ""
