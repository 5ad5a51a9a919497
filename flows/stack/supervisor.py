"""The supervisor: `python -m flows.stack.supervisor FOLDER` runs the plan in the stack's folder until it gets SIGTERM.

Exit codes: 0 stopped when told to, 1 a service did not start, 2 the plan or the lock.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import CclmError
from flows.stack.config import ServiceConfig
from flows.stack.processes import end, members
from flows.stack.service import Service
from flows.stack.state import MARKER, PLAN, StackState, alone, write_state

LEFT_SECONDS = 60.0  # a flow that is told to stop says so to Prefect, and its training to its record


class Supervisor:
    """Runs services in order.

    Args:
        folder: of the stack.
        services: in their order.
        environment: of every service, beside what it names itself.
    """

    def __init__(self, folder: Path, services: dict[str, ServiceConfig], environment: dict[str, str]) -> None:
        self.folder = folder
        self.state = StackState("starting", os.getpid())
        marked = os.environ | environment | {MARKER: str(folder)}
        self.services = [Service(name, config, folder, marked, self._write) for name, config in services.items()]
        self.state.services = {service.name: service.state for service in self.services}
        self.told = asyncio.Event()

    async def run(self) -> int:
        """Starts the services, keeps them, stops them when told to; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.told.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the terminal's end is not the stack's
        await asyncio.to_thread(end, members(self.folder), LEFT_SECONDS)  # of a supervisor that was killed
        keepers: list[asyncio.Task[None]] = []
        failed = not await self._start(keepers)
        if not failed and not self.told.is_set():
            self._phase("up")
            await self.told.wait()
        self._phase("failed" if failed else "stopping")
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await self._stop()
        if not failed:
            self._phase("down")
        return 1 if failed else 0

    async def _start(self, keepers: list[asyncio.Task[None]]) -> bool:
        told = asyncio.create_task(self.told.wait())
        for service in self.services:
            start = asyncio.create_task(service.start())
            await asyncio.wait([start, told], return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                start.cancel()
                await asyncio.gather(start, return_exceptions=True)
                break
            if not start.result():
                service.say(service.state.message)
                told.cancel()
                return False
            service.say(service.state.state)
            if not service.config.once:
                keepers.append(asyncio.create_task(service.keep()))
        told.cancel()
        return True

    async def _stop(self) -> None:
        """In reverse; what a worker's flows left is told to stop while the servers before it still take its word."""
        for service in reversed(self.services):
            if service.state.state == "failed":
                continue
            await service.stop()
            kept = {other.process.pid for other in self.services if other.process}
            left = [process for process in members(self.folder) if _leader(process.pid) not in kept]
            for pid in await asyncio.to_thread(end, left, LEFT_SECONDS):
                service.say(f"process {pid} did not stop within {LEFT_SECONDS:g} s and is killed")

    def _phase(self, phase: str) -> None:
        self.state.phase = phase
        print(f"the stack is {phase}", flush=True)
        self._write()

    def _write(self) -> None:
        try:
            write_state(self.folder, self.state)
        except OSError as error:  # a full disk: the services are kept all the same
            print(f"{self.folder / 'state.json'} cannot be written: {error}", flush=True)


def _leader(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def main(folder: Path) -> int:
    """Runs the plan; returns the exit code."""
    plan = read_json(folder / PLAN)
    services = {name: ServiceConfig.parse(values, name) for name, values in plan["services"]}
    with alone(folder):
        return asyncio.run(_supervise(folder, services, plan["environment"]))


async def _supervise(folder: Path, services: dict[str, ServiceConfig], environment: dict[str, str]) -> int:
    return await Supervisor(folder, services, environment).run()


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except CclmError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
