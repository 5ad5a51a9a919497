"""One service: started, asked for its health, started again when it dies or no longer answers, stopped."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flows.stack.config import ServiceConfig
from flows.stack.health import healthy
from flows.stack.logs import RotatingLog
from flows.stack.processes import command_of, end, identity, in_session, members
from flows.stack.state import ServiceState

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
STEADY_SECONDS = 60.0  # a service that lasted so long is started again at once when it dies
LOOK_SECONDS, POLL_SECONDS, KILL_SECONDS = 0.1, 0.3, 10.0
LEFTOVER_SECONDS = 10.0


class Service:
    """A service under supervision.

    Args:
        folder: of the stack.
        environment: of the process.
        changed: called after each change of `state`.
    """

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        folder: Path,
        environment: Mapping[str, str],
        changed: Callable[[], None],
    ) -> None:
        self.name, self.config, self.folder, self.changed = name, config, folder, changed
        self.environment = dict(environment) | config.environment
        self.state = ServiceState(since=time.time())
        self.log = RotatingLog(folder / "logs" / f"{name}.log")
        self.process: asyncio.subprocess.Process | None = None
        self.reader: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Starts it and waits until it is healthy; else says why not in `state` and ends what it started."""
        self._tell("starting")
        try:
            self.process = await asyncio.create_subprocess_exec(
                *command_of(self.config),
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                **identity(self.config.user),
            )
        except OSError as error:
            self._tell("failed", f"it could not be started: {error}")
            return False
        self.state.pid = self.process.pid
        self._tell("starting")
        self.reader = asyncio.create_task(self._copy(self.process))
        problem = await (self._until_done() if self.config.once else self._until_healthy())
        if problem:
            await self._end()
            self._tell("failed", problem)
            return False
        if self.config.once:
            self.state.pid = 0
        self._tell("done" if self.config.once else "healthy")
        return True

    async def keep(self) -> None:
        """Watches it for ever; starts it again when it dies or no longer answers, each time after a longer pause."""
        delay = FIRST_DELAY_SECONDS
        while True:
            began = time.monotonic()
            reason = await self._broken()
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            await self._end()
            while True:
                self._tell("restarting", reason)
                self.say(f"{reason}; it is started again in {delay:g} s")
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
                self.state.restarts += 1
                if await self.start():
                    self.say("healthy again")
                    break
                reason = self.state.message

    async def stop(self) -> None:
        """Ends it: its stop signal, after `stop_seconds` SIGKILL, then whatever it left in its session."""
        if self.state.state in ("done", "waiting", "stopped"):
            return
        self._tell("stopping")
        await self._end()
        self._tell("stopped")

    def say(self, text: str) -> None:
        """Prints a line into the supervisor's log."""
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.name}: {text}", flush=True)

    async def _until_healthy(self) -> str:
        assert self.process
        if self.config.health is None:
            return ""
        deadline = time.monotonic() + self.config.start_seconds
        while True:
            if self.process.returncode is not None:
                return self._ended()
            problem = await healthy(self.config.health, self.environment)
            # Another process on its port may have answered while this one died of it.
            if not problem and self.process.returncode is None:
                return ""
            if time.monotonic() > deadline:
                return f"it was not healthy within {self.config.start_seconds:g} s: {problem}"
            await self._pause(POLL_SECONDS)

    async def _until_done(self) -> str:
        assert self.process
        await self._pause(self.config.start_seconds)
        if self.process.returncode is None:
            return f"it did not end within {self.config.start_seconds:g} s"
        return self._ended() if self.process.returncode else ""

    async def _broken(self) -> str:
        """Returns, with the reason, when it has died or has not answered for too long."""
        assert self.process
        health, failures, problem = self.config.health, 0, ""
        while True:
            await self._pause(health.every_seconds if health else 60.0)
            if self.process.returncode is not None:
                return self._ended()
            if health is None:
                continue
            problem = await healthy(health, self.environment)
            failures = failures + 1 if problem else 0
            if failures >= health.failures:
                return f"no answer {failures} times in a row: {problem}"

    async def _pause(self, seconds: float) -> None:
        """Waits, at most until the process ends; asyncio's own `wait` also waits for whoever else has its output."""
        assert self.process
        deadline = time.monotonic() + seconds
        while self.process.returncode is None and (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_SECONDS, left))

    async def _end(self) -> None:
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.Signals[self.config.stop_signal])
            await self._pause(self.config.stop_seconds)
        if process.returncode is None:
            self.say(f"it did not stop within {self.config.stop_seconds:g} s and is killed")
            process.kill()
            await self._pause(KILL_SECONDS)
        left = in_session(members(self.folder), process.pid)
        await asyncio.to_thread(end, left, LEFTOVER_SECONDS)
        if self.reader:
            await asyncio.wait([self.reader], timeout=1)
        self.process, self.state.pid = None, 0

    async def _copy(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while data := await process.stdout.read(65536):
            try:
                self.log.write(data)
            except OSError as error:  # a full disk: the service goes on, what it says is lost
                self.say(f"its log cannot be written: {error}")

    def _ended(self) -> str:
        assert self.process
        code = self.process.returncode or 0
        return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"

    def _tell(self, state: str, message: str = "") -> None:
        self.state.state, self.state.message, self.state.since = state, message, time.time()
        self.changed()
