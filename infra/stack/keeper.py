"""The services of a running stack: health and processes. As a service itself it restarts those that hang."""

import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import psutil  # type: ignore[import-untyped]
from supervisor.childutils import getRPCInterface

from cclm_core.runtime.errors import CclmError
from flows import processes
from infra.stack.cluster import USER
from infra.stack.settings import CONF, MARKER, SECRETS, read_conf
from infra.stack.worker import request

EXIT = "exit"  # health check of a service that must end with exit code 0
LIVE = ("STARTING", "RUNNING")
POLL_SECONDS = 0.3
NUM_LINES = 15  # of a service's log in an error
FLOW_SECONDS, CHILD_SECONDS = 60.0, 10.0  # a flow that is stopped reports to Prefect, and its training writes a record


class StackError(CclmError):
    """The stack did not start."""


class Services:
    """The services that supervisord runs for the stack in `folder`.

    Attributes:
        rpc: supervisord's XML-RPC interface. Its methods raise `Fault` or `OSError`.
        checks: service -> its health check, in start order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rpc = folder, connect(folder)
        conf = read_conf(folder / CONF)
        programs = {name.removeprefix("program:"): keys for name, keys in conf.items() if name.startswith("program:")}
        self.checks = {name: keys["cclm_health"] for name, keys in programs.items()}
        self.start_seconds, self.check_seconds, self.max_failures = (
            float(conf["settings"][f"CCLM_{name}"]) for name in ("START_SECONDS", "CHECK_SECONDS", "CHECK_FAILURES")
        )

    def infos(self) -> dict[str, dict[str, Any]]:
        """supervisord's `getProcessInfo` of each service."""
        infos = {info["name"]: info for info in self.rpc.getAllProcessInfo()}
        return {name: infos[name] for name in self.checks}

    def problem(self, info: Mapping[str, Any]) -> str:
        """Why the service with this `getProcessInfo` is not healthy; "" if it is."""
        check = self.checks[info["name"]]
        if info["statename"] == "EXITED":
            return "" if check == EXIT and not info["exitstatus"] else f"exit code {info['exitstatus']}"
        if check == EXIT or info["statename"] not in LIVE:
            return str(info["description"] or info["statename"])
        try:
            if check.startswith("http://"):
                url, credentials = self._split(check)
                request(url, credentials, self.check_seconds)
            else:
                subprocess.run(shlex.split(check), capture_output=True, timeout=self.check_seconds, check=True)
        except (OSError, HTTPException, subprocess.SubprocessError) as error:
            return str(error)
        return ""

    def _split(self, check: str) -> tuple[str, str]:
        """The URL of a health check without its user name, and USER:PASSWORD if it has one."""
        parsed = urllib.parse.urlsplit(check)
        if not parsed.username:
            return check, ""
        stored = dict(line.split("=", 1) for line in (self.folder / SECRETS).read_text().splitlines())
        return parsed._replace(netloc=parsed.netloc.rpartition("@")[2]).geturl(), f"{USER}:{stored['PREFECT_PASSWORD']}"

    def start(self, name: str) -> None:
        """Starts a service and waits until it is healthy.

        Raises:
            StackError: it ended, or is not healthy after `CCLM_START_SECONDS`.
        """
        started = time.monotonic()
        with suppress(Fault):  # its state has the reason
            self.rpc.startProcess(name, False)
        while problem := self.problem(info := self.rpc.getProcessInfo(name)):
            seconds = time.monotonic() - started
            if info["statename"] not in LIVE or seconds > self.start_seconds:
                lines = (self.folder / "logs" / f"{name}.log").read_text(errors="replace").splitlines()[-NUM_LINES:]
                message = f"{name} is not healthy after {seconds:.0f} s: {problem}. Its log ends:"
                raise StackError("\n".join([message, *lines]))
            time.sleep(POLL_SECONDS)
        print(f"{name}: {'done' if self.checks[name] == EXIT else 'healthy'}", flush=True)

    def watch(self) -> None:
        """Ends children of crashed services, and restarts services that fail their health check repeatedly."""
        failures = Counter[str]()
        while True:
            time.sleep(self.check_seconds)
            groups = [(process, *_session_and_group(process)) for process in members(self.folder)]
            try:
                infos = self.infos()
                pids = {os.getppid(), *(info["pid"] for info in infos.values())}
                end([process for process, session, group in groups if session == os.getsid(0) and group not in pids])
                for name, info in infos.items():
                    is_due = info["statename"] == "RUNNING" and time.time() - info["start"] > self.start_seconds
                    problem = self.problem(info) if is_due else ""
                    failures[name] = failures[name] + 1 if problem else 0
                    if failures[name] >= self.max_failures:
                        print(f"{name} does not respond, restarting it: {problem}", flush=True)
                        failures[name] = 0
                        self.rpc.stopProcess(name)
                        self.rpc.startProcess(name, False)
            except Fault as fault:  # supervisord is stopping, or has just restarted the service
                print(fault.faultString, flush=True)


def connect(folder: Path) -> Any:
    """supervisord's XML-RPC interface for the stack in `folder`."""
    return getRPCInterface({"SUPERVISOR_SERVER_URL": f"unix://{folder}/supervisord.sock"}).supervisor


def members(folder: Path) -> list[psutil.Process]:
    """All processes of the stack in `folder`: each inherits CCLM_STACK in its environment."""
    running = psutil.process_iter(["cmdline", "ppid"])
    return [process for process in running if processes.environment_variable(process, MARKER) == str(folder)]


def end(selected: list[psutil.Process]) -> None:
    """Ends processes by SIGTERM, then SIGKILL; parents first, because a flow stops its own stages and reports it."""
    pids = {process.pid for process in selected}
    processes.end([process for process in selected if process.info["ppid"] not in pids], FLOW_SECONDS)
    processes.end(selected, CHILD_SECONDS)


def _session_and_group(process: psutil.Process) -> tuple[int, int]:
    """A service has a process group of its own in supervisord's session, a flow has its own session; (0, 0): ended."""
    try:
        return os.getsid(process.pid), os.getpgid(process.pid)
    except ProcessLookupError:
        return 0, 0


if __name__ == "__main__":
    stack = Path(os.environ[MARKER])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        Services(stack).watch()
    except SystemExit:  # supervisord has stopped the workers, but their flows are still running
        end([process for process in members(stack) if _session_and_group(process)[0] not in (os.getsid(0), 0)])
