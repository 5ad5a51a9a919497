"""Processes of a run that are killed, stopped, or hang."""

import os
import signal
from collections.abc import Callable

from tests.faults.pipeline import SECONDS, TRAIN, Pipeline
from tests.flows.test_stage import wait_for

Trial = Callable[[Pipeline], None]


def kill(role: str, number: int = signal.SIGKILL) -> Trial:
    """A process of a run gets a signal during a training."""

    def trial(pipeline: Pipeline) -> None:
        run = pipeline.start(*TRAIN)
        victim = pipeline.process(role)
        assert victim.is_running()
        os.kill(victim.pid, number)
        assert wait_for(lambda: not victim.is_running() or victim.status() == "zombie")
        pipeline.release()
        run.wait(SECONDS)
        pipeline.is_whole()
        pipeline.again()
        assert "was killed" not in pipeline.warnings  # the flow noticed it
        pipeline.check()

    return trial


def kill_flow(pipeline: Pipeline) -> None:
    """`cclm run` itself is killed; its stage ends by itself, and the next run warns."""
    run = pipeline.start(*TRAIN)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    pipeline.release()
    pipeline.is_whole()
    pipeline.again()
    assert "an earlier run, was killed" in pipeline.warnings
    pipeline.check()


def hang(pipeline: Pipeline) -> None:
    """`cclm run` is suspended, then killed."""
    run = pipeline.start(*TRAIN)
    os.kill(run.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, run.pid, os.WSTOPPED)
    pipeline.release()
    trainer = pipeline.process("trainer")
    pipeline.until(lambda: not trainer.is_running())  # its stage continues and ends
    run.kill()
    assert run.wait() == -signal.SIGKILL
    pipeline.is_whole()
    pipeline.again()
    pipeline.check()


def stop(number: signal.Signals, code: int, whole_group: bool = False, times: int = 1) -> Trial:
    """`cclm run` gets a signal to stop: it ends all its processes and exits with the code of the signal."""

    def trial(pipeline: Pipeline) -> None:
        run = pipeline.start(*TRAIN)
        trainer = pipeline.process("trainer")
        for _ in range(times):
            (os.killpg if whole_group else os.kill)(run.pid, number)
            wait_for(lambda: run.poll() is not None, 0.3)
        assert run.wait(SECONDS) == code, pipeline.output()
        assert not trainer.is_running() and "Traceback" not in pipeline.output()
        pipeline.is_closed()
        pipeline.release()
        pipeline.is_whole()
        pipeline.again()
        pipeline.check()

    return trial


# With Prefect's temporary server, which ends with the run.
ALONE: dict[str, Trial] = {
    "SIGKILL of the flow": kill_flow,
    "SIGKILL of Prefect's temporary server": kill("server"),
    "SIGSTOP of the flow, then SIGKILL": hang,
    "SIGTERM of cclm run": stop(signal.SIGTERM, 143),
    "SIGTERM of cclm run, twice": stop(signal.SIGTERM, 143, times=2),
    "SIGINT of cclm run": stop(signal.SIGINT, 130, whole_group=True),
}
# With a permanent server.
SERVED: dict[str, Trial] = {
    "SIGKILL of the stage runner": kill("stage"),
    "SIGKILL of the trainer": kill("trainer"),
    "SIGKILL of dvc": kill("dvc"),
    "SIGTERM of the trainer": kill("trainer", signal.SIGTERM),
}
