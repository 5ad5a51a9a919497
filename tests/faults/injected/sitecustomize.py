"""Kills the process that it is imported into at a moment that a trial names in `CCLM_TEST_FAULT`: Python imports it at
its start when this folder is in PYTHONPATH.

The moment is a system event (https://docs.python.org/3/library/audit_events.html) of a process whose command line has
the word `program` and whose arguments end in `ending`; `number` of them are let pass. With `written`, the process dies
once the file that it opens has been emptied, at the first call to write into it. It happens once: what has died is
named in the file `fired`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def arm(fault: dict[str, Any]) -> None:
    """Watches for the moment."""
    left = [fault["number"]]

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event != fault["event"] or not any(str(value).endswith(fault["ending"]) for value in values[:2]):
            return
        if fault["written"] and not str(values[1]).startswith("w"):
            return
        left[0] -= 1
        if left[0] >= 0 or Path(fault["fired"]).exists():
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
    given = json.loads(os.environ["CCLM_TEST_FAULT"])
    if any(given["program"] in word for word in sys.orig_argv):
        arm(given)
