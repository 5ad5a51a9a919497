"""Runs damaged files through a parser in a process of its own: what it raises, and whether it hangs or dies."""

import contextlib
import io
import multiprocessing
import os
import random
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from cclm_core.runtime.errors import CclmError
from tests.fuzz.mutations import BYTES, JSON, Mutation

SECONDS = 30  # for one case: each takes well below one
MEMORY = 8 << 30  # bytes of address space; torch alone takes some of it


class Target(NamedTuple):
    """What is damaged, and what reads it.

    Attributes:
        files: the files, in turn; each is restored after its case.
        parse: reads them; it may return or raise a CclmError.
        after: called between damaging a file and reading it, e.g. to write a manifest that fits.
        mutations: None for those that fit each file's name.
    """

    files: Sequence[Path]
    parse: Callable[[], object]
    after: Callable[[], object] | None = None
    mutations: Sequence[Mutation] | None = None


class Outcome(NamedTuple):
    """The numbers of accepted and refused cases, and the failures: each the case and the last line of its traceback."""

    accepted: int
    refused: int
    failures: list[str]


def run_cases(prepare: Callable[[Path], Target], folder: Path, count: int, seed: str) -> Outcome:
    """Runs `count` damaged files through a parser that `prepare` makes in `folder`."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(prepare, folder, count, seed, sender))
    child.start()
    sender.close()
    accepted, refused, failures = 0, 0, []
    last = "before the first case"
    with contextlib.suppress(EOFError):
        while True:
            kind, text = receiver.recv()
            accepted, refused = accepted + (kind == "accepted"), refused + (kind == "refused")
            if kind == "failed":
                failures.append(text)
            last = f"after {text}" if kind == "case" else last
    child.join()
    if child.exitcode:
        failures.append(f"the process ended with {child.exitcode} {last}")
    return Outcome(accepted, refused, failures)


def _child(prepare: Callable[[Path], Target], folder: Path, count: int, seed: str, sender: Connection) -> None:
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        target = prepare(folder)
        target.parse()  # the undamaged files are accepted
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        whole = {path: path.read_bytes() for path in target.files}
        for number in range(count):
            draw = random.Random(f"{seed} {number}")
            path = draw.choice(sorted(whole))
            mutations = target.mutations or (JSON if path.suffix in (".json", "") else BYTES)
            mutation = draw.choice(mutations)
            sender.send(("case", f"case {seed} {number}: {mutation.__name__} of {path.name}"))
            path.write_bytes(mutation(whole[path], draw))
            kind, reason = _tried(target)
            sender.send((kind, f"case {seed} {number}: {mutation.__name__} of {path.name}: {reason}"))
            path.write_bytes(whole[path])
            if target.after is not None:
                target.after()
    sender.close()
    os._exit(0)  # without the exit handlers of libraries that other tests loaded into the parent


def _tried(target: Target) -> tuple[str, str]:
    signal.alarm(SECONDS)
    try:
        if target.after is not None:
            target.after()
        target.parse()
    except CclmError as error:
        return ("refused", "") if str(error).strip() else ("failed", f"{type(error).__name__} without a message")
    except Exception as error:  # noqa: BLE001  every other exception is a failure, whatever it is
        return "failed", _last_line(error)
    finally:
        signal.alarm(0)
    return "accepted", ""


def _last_line(error: BaseException) -> str:
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "tests/fuzz" not in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    known = [frame for frame in ours if "cclm_core" in frame.filename or "/flows/" in frame.filename]
    ours_at = f", from {Path(known[-1].filename).name}:{known[-1].lineno}" if known else ""
    return f"{type(error).__name__} at {where}{ours_at}: {str(error)[:200]}"


def _too_long(_number: int, _frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")
