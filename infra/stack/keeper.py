"""`python -m infra.stack.keeper`, run by supervisord: starts the services in order, then watches their health."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

from supervisor.childutils import getRPCInterface
from supervisor.states import RUNNING_STATES

from flows import environment
from flows.processes import name_of
from infra.stack.processes import MARKER, end, members, session_and_group
from infra.stack.settings import CONF, read_conf, write_private

POLL_SECONDS, RETRY_SECONDS = 0.3, 60.0
NUM_LINES = 15  # of the log of a service that did not start
CLIENT_PREFIXES = ("PREFECT_API_", "PREFECT_CLIENT_", "MLFLOW_TRACKING_")
HEALTH, EXIT = "health.json", "exit"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy


class Keeper:
    """Keeps the services of the stack that supervisord's environment describes.

    Attributes:
        checks: the health check of each service, in start order.
        health: what `ps` reads: the pid of each service when it was last checked, and its problem, "" if healthy.
    """

    def __init__(self) -> None:
        self.folder = Path(os.environ[MARKER])
        self.server: Any = getRPCInterface(os.environ).supervisor
        self.check_seconds, self.start_seconds, self.max_failures = (
            float(os.environ[f"CCLM_{name}"]) for name in ("CHECK_SECONDS", "START_SECONDS", "CHECK_FAILURES")
        )
        values = {f"ENV_{name}": value for name, value in os.environ.items()}
        self.checks = {
            section.removeprefix("program:"): keys["cclm_health"] % values
            for section, keys in read_conf(self.folder / CONF).items()
            if "cclm_health" in keys
        }
        self.health: dict[str, tuple[int, str]] = dict.fromkeys(self.checks, (0, ""))
        self.failures = dict.fromkeys(self.checks, 0)
        self.pids = set[int]()

    def run(self) -> None:
        """Runs until SIGTERM, which supervisord sends after the workers ended; then ends the flows they left."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            self._start_all()
            while True:
                time.sleep(self.check_seconds)
                try:
                    self._check_all()
                except Fault as fault:  # supervisord is stopping, or restarts the service at this moment
                    print(fault.faultString, flush=True)
        except SystemExit:
            (self.folder / environment.CLIENT_FILE).unlink(missing_ok=True)
            services = (os.getsid(0), 0)
            end([process for process in members(self.folder) if session_and_group(process)[0] not in services])
            raise
        except Exception:
            if not environment.stack_settings(self.folder):  # `up` waits
                with suppress(Fault, OSError):
                    self.server.shutdown()
            raise

    def _start_all(self) -> None:
        was_up = bool(environment.stack_settings(self.folder))  # this keeper replaces one that was killed
        for name, check in self.checks.items():
            write_private(self.folder / HEALTH, json.dumps(self.health))
            if self._info(name)["state"] not in RUNNING_STATES:
                self.server.startProcess(name, False)
            problem = self._wait(name, check)
            if problem and not was_up:
                log = (self.folder / "logs" / f"{name}.log").read_text(errors="replace").splitlines()
                print(f"{name} did not start: {problem}. Its log ends:", *log[-NUM_LINES:], sep="\n", flush=True)
                self.server.shutdown()
                signal.pause()
            print(f"{name}: {problem or ('done' if check == EXIT else 'healthy')}", flush=True)
        write_private(self.folder / HEALTH, json.dumps(self.health))
        clients = {name: value for name, value in os.environ.items() if name.startswith(CLIENT_PREFIXES)}
        supervisord = {environment.SUPERVISOR: name_of(os.getppid()) or ""}
        write_private(self.folder / environment.CLIENT_FILE, supervisord | clients)
        print("the stack is up", flush=True)

    def _wait(self, name: str, check: str) -> str:
        """Waits until a service is healthy; returns "" or the reason why it is not."""
        deadline, problem = time.monotonic() + self.start_seconds, "it still runs"
        while time.monotonic() < deadline:
            info = self._info(name)
            if check == EXIT and info["statename"] == "EXITED":
                return f"exit code {info['exitstatus']}" if info["exitstatus"] else ""
            if info["statename"] not in ("STARTING", "RUNNING"):
                return str(info["spawnerr"] or info["statename"])
            if check != EXIT:
                problem = self._problem(check)
                self.health[name] = (info["pid"], problem)
                if not problem:
                    return ""
            time.sleep(POLL_SECONDS)
        return f"not ready after {self.start_seconds:g} s: {problem}"

    def _check_all(self) -> None:
        found = members(self.folder)
        infos = {info["name"]: info for info in self.server.getAllProcessInfo()}
        pids = {info["pid"] for info in infos.values()} | {os.getppid()}
        if pids != self.pids:  # a service crashed: end its children, which may hold its port
            groups = [(process, *session_and_group(process)) for process in found]
            end([process for process, session, group in groups if session == os.getsid(0) and group not in pids])
            self.pids = pids
        for name, check in self.checks.items():
            info = infos[name]
            if info["statename"] == "FATAL" and time.time() - info["stop"] > RETRY_SECONDS:
                self.server.startProcess(name, False)
            elif info["statename"] in ("STARTING", "RUNNING") and check != EXIT:
                self._check(name, check, info)
        write_private(self.folder / HEALTH, json.dumps(self.health))

    def _check(self, name: str, check: str, info: dict[str, Any]) -> None:
        problem = self._problem(check)
        if not problem and self.health[name][0] != info["pid"]:
            print(f"{name}: healthy again", flush=True)
        is_starting = time.time() - info["start"] < self.start_seconds
        self.failures[name] = self.failures[name] + 1 if problem and not is_starting else 0
        self.health[name] = (0 if problem and is_starting else info["pid"], problem)
        if self.failures[name] >= self.max_failures:
            print(f"{name} is restarted because it does not respond: {problem}", flush=True)
            self.failures[name] = 0
            self.server.stopProcess(name)
            self.server.startProcess(name, False)

    def _problem(self, check: str) -> str:
        try:
            if not check:
                return ""
            if check.startswith("http://"):
                _opener.open(check, timeout=self.check_seconds).close()
            else:
                subprocess.run(shlex.split(check), capture_output=True, timeout=self.check_seconds, check=True)
        except (OSError, HTTPException, subprocess.SubprocessError) as error:
            return str(error)
        return ""

    def _info(self, name: str) -> dict[str, Any]:
        return dict(self.server.getProcessInfo(name))


if __name__ == "__main__":
    Keeper().run()
