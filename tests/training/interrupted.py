"""Runs trainings in separate processes, and kills them at a given point.

`python -m tests.training.interrupted` imports torch once. For each line on standard input, a `Trial` as JSON, it forks
a process, waits for it, and prints its exit status; a negative status is the signal that ended it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._dynamo  # optimizers import it in their first step, which would take longer than a trial
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.training.loop import train
from tests.training.trainings import CONFIG, SEED, data, new_module, store

MOMENTS = ("forward", "backward", "update", "evaluation", "saving")
"""When a training can be killed: in the middle of a step, after its update, during evaluation, or during a save."""


class Trial(NamedTuple):
    """One training process: its objective, changes to `CONFIG`, folders, and when to send which signal to it."""

    task: dict[str, Any]
    changes: dict[str, Any]
    encoded: str
    folder: str
    moment: str = ""
    step: int = -1
    signal: int = signal.SIGKILL


class Watch:
    """Hooks into a training: appends every loss to a file, and sends the signal of the trial at its moment and step.

    `step` is the number of updates so far, including those of earlier processes.
    """

    def __init__(self, trial: Trial, first: int, accumulate: int) -> None:
        self.trial, self.step, self.accumulate, self.batches = trial, first, accumulate, 0
        self.losses = (Path(trial.folder) / "losses.txt").open("a", encoding="utf-8", buffering=1)

    def follow(self, model: nn.Module) -> None:
        """Installs the hooks."""
        model.register_forward_hook(self._forward)
        next(model.parameters()).register_hook(lambda _: self._reached("backward"))
        register_optimizer_step_post_hook(self._update)
        sys.addaudithook(self._event)

    def _forward(self, model: nn.Module, _: object, output: tuple[Tensor, object]) -> None:
        if not model.training:
            self._reached("evaluation")
            return
        self.losses.write(f"{self.step} {self.batches} {output[0].item().hex()}\n")
        self.batches += 1
        if self.batches == self.accumulate:  # gradients of earlier batches are accumulated
            self._reached("forward")

    def _update(self, *_: object) -> None:
        self.step, self.batches = self.step + 1, 0
        self._reached("update")

    def _event(self, name: str, values: tuple[Any, ...]) -> None:
        if name == "os.rename" and str(values[0]).endswith(".safetensors.writing"):
            self._reached("saving")  # the file is written but not renamed yet

    def _reached(self, moment: str) -> None:
        if (moment, self.step) == (self.trial.moment, self.trial.step):
            os.kill(os.getpid(), self.trial.signal)


def run_trial(trial: Trial) -> None:
    """Trains to the end unless killed, and writes weights and curve next to the checkpoints."""
    torch.set_num_threads(1)
    config = CONFIG.model_copy(update=trial.changes)
    corpus, folder = EncodedCorpus.open(Path(trial.encoded)), Path(trial.folder)
    objective: ObjectiveConfig = TypeAdapter(ObjectiveConfig).validate_python(trial.task)
    module = new_module(corpus, objective, noise_rate=0.1)
    checkpoints = store(folder / "checkpoints")
    newest = checkpoints.newest()
    Watch(trial, newest.step if newest else 0, config.accumulate).follow(module)
    curve = train(module, data(corpus, config), config, SEED, checkpoints, lambda *_: None)
    save_file(module.state_dict(), folder / "weights.safetensors")
    (folder / "curve.json").write_text(json.dumps(curve))


class Server:
    """Runs trials one after the other in a server process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, trial: Trial) -> int:
        """Runs a trial and returns its exit status; negative for the signal that ended it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(trial) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def server() -> Iterator[Server]:
    """A server that runs until the end of the block."""
    command = [sys.executable, "-m", __name__]
    # A process that has initialized CUDA cannot be forked.
    settings: dict[str, Any] = {"cwd": Path(__file__).parents[2], "env": os.environ | {"CUDA_VISIBLE_DEVICES": ""}}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **settings) as process:
        yield Server(process)
        assert process.stdin
        process.stdin.close()


def serve() -> None:
    """Forks a process for each line of standard input. Runs no torch operation, so there are no threads to lose."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run_trial(Trial(*json.loads(line)))
            os._exit(0)  # shutting down the interpreter would take longer than the trial
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
