"""Kills its process at the moment that `CCLM_TEST_FAULT` describes. Python imports this module at start if its folder
is in PYTHONPATH.

The moment is an audit event (https://docs.python.org/3/library/audit_events.html) with an argument that ends in
`ending`, in a process with `program` in its command line, after `number` other such events. With `written`, the event
opens a file for writing, and the process dies at its first write to the emptied file. Without `exchange`, the process
does not find the system call that exchanges two folders. A fault fires once: the pid of the killed process is written
to the file `fired`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def arm(fault: dict[str, Any]) -> None:
    """Waits for the moment."""
    remaining = [fault["number"]]

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "ctypes.dlsym" and values[1] == "renameat2" and not fault["exchange"]:
            raise AttributeError("renameat2 not found")  # as in a system that lacks it
        if event != fault["event"] or not any(str(value).endswith(fault["ending"]) for value in values[:2]):
            return
        if fault["written"] and not str(values[1]).startswith("w"):
            return
        remaining[0] -= 1
        if remaining[0] >= 0 or Path(fault["fired"]).exists():
            return
        if fault["written"]:
            sys.setprofile(at_write)
        else:
            die()

    def at_write(_frame: object, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in ("write", "close", "flush"):
            die()

    def die() -> None:
        sys.setprofile(None)
        with Path(fault["fired"]).open("x") as stream:
            stream.write(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if "CCLM_TEST_FAULT" in os.environ:
    described = json.loads(os.environ["CCLM_TEST_FAULT"])
    if any(described["program"] in word for word in sys.orig_argv):
        arm(described)
