"""Trainings in processes of their own that are killed where a test wants it.

`python -m tests.training.interrupted` imports torch once and then forks a process for each line that it reads, a
`Trial` as JSON; when that process has ended it writes its exit status, negative for a signal, on a line.
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
import torch._dynamo  # optimizers import it at their first step, which takes longer than a trial
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.training.loop import train
from tests.training.trainings import CONFIG, SEED, data, new_module, store

MOMENTS = ("forward", "backward", "update", "evaluation", "saving")
"""Where a training can be killed: in the middle of a step, behind its update, while it measures, while it saves."""


class Trial(NamedTuple):
    """One process: what it trains, where its files are, and when it dies."""

    task: dict[str, Any]
    changes: dict[str, Any]
    encoded: str
    folder: str
    moment: str = ""
    step: int = -1
    signal: int = signal.SIGKILL


class Watch:
    """Follows a training from inside its process: writes every loss to a file, and sends the signal when it is time.

    `step` counts the updates that were made, those of earlier processes included.
    """

    def __init__(self, trial: Trial, first: int, accumulate: int) -> None:
        self.trial, self.step, self.accumulate, self.batches = trial, first, accumulate, 0
        self.losses = (Path(trial.folder) / "losses.txt").open("a", encoding="utf-8", buffering=1)

    def follow(self, model: nn.Module) -> None:
        """Attaches itself."""
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
        if self.batches == self.accumulate:  # gradients of earlier batches are there
            self._reached("forward")

    def _update(self, *_: object) -> None:
        self.step, self.batches = self.step + 1, 0
        self._reached("update")

    def _event(self, name: str, values: tuple[Any, ...]) -> None:
        if name == "os.rename" and str(values[0]).endswith(".safetensors.writing"):
            self._reached("saving")  # the file is written, but has not got its name

    def _reached(self, moment: str) -> None:
        if (moment, self.step) == (self.trial.moment, self.trial.step):
            os.kill(os.getpid(), self.trial.signal)


def run_trial(trial: Trial) -> None:
    """Trains to the end, unless it is killed; leaves weights and curve beside the checkpoints."""
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
    """Runs trials one after the other; what they print is passed on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, trial: Trial) -> int:
        """The exit status of the trial, negative for the signal that ended it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(trial) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def server() -> Iterator[Server]:
    """A server that ends with the block."""
    command = [sys.executable, "-m", __name__]
    # A process that has seen a GPU cannot be forked.
    settings: dict[str, Any] = {"cwd": Path(__file__).parents[2], "env": os.environ | {"CUDA_VISIBLE_DEVICES": ""}}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **settings) as process:
        yield Server(process)
        assert process.stdin
        process.stdin.close()


def serve() -> None:
    """Forks for each line of standard input. No operation of torch runs here, so there are no threads to lose."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run_trial(Trial(*json.loads(line)))
            os._exit(0)  # at once: to take the interpreter down takes longer than the trial
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
