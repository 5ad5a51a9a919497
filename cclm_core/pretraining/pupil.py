"""What one call of `fit` trains, and its training: interrupted and resumed, or whole."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from cclm_core.composition.component import Component, OverBase, features_of
from cclm_core.encoders.embedder import Base
from cclm_core.objectives.base import Objective
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.reporting import Report
from cclm_core.training.checkpoint import Checkpoint, Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.loop import Trainee, evaluate, train
from cclm_core.training.progress import Point


class WithBase(nn.Module):
    """A component and the base below it, as one encoder of ids (B, L) that is trained as a whole.

    Raises:
        CompositionError: a causal component over a base that is not.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.base, self.component = base, component

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend on it and those before it alone."""
        return self.component.causal

    @property
    def described(self) -> str:
        """A few words for a message."""
        return f"{self.base.described} with the component {self.component.card.name!r}"

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width of the component)."""
        return features_of(self.base, {"": self.component}, ids)[""]


@dataclass(frozen=True)
class Pupil:
    """A base, a component over it and the head of an objective; the base is trained with them or is frozen.

    Raises:
        ConfigError: the objective asks for what comes next, and the component sees it.
    """

    base: Base
    component: Component
    objective: Objective
    train_base: bool

    def trainee(self) -> Trainee:
        """What the training loop trains, where the base is."""
        encoder = (WithBase if self.train_base else OverBase)(self.base, self.component)
        return Trainee(encoder, [(self.objective, 1.0)]).to(device_of(self.base)).train()


@dataclass(frozen=True)
class Run:
    """One training: what it is called, what it depends on, and where its checkpoints go.

    Args:
        name: a plain name, which no other training in the same folder has.
        identity: digest of all that its result depends on.
        seed: of batches, corruption and noise.
        folder: for checkpoints and, once it has ended, for its result; None to keep nothing.
    """

    name: str
    identity: str
    seed: int
    folder: Path | None

    def train(self, trainee: Trainee, data: Data, training: TrainingConfig, report: Report) -> list[Point]:
        """Trains in place and returns the learning curve; of a training that has ended, both come from its folder.

        Raises:
            DataError: nothing in the held-out windows can be asked for.
            TrainingError: another process runs this training, or the loss is not finite.
        """
        self._check_measurable(trainee, data, training)
        if self.folder is None:
            return train(trainee, data, training, self.seed, None, report)
        unfinished = Checkpoints(self.folder / "unfinished" / self.name, self.identity)
        finished = Checkpoints(self.folder / "finished" / self.name, self.identity)
        with unfinished.exclusive():
            result = finished.newest()
            if result is not None:
                trainee.load_state_dict(result.tensors)
                curve: list[Point] = result.facts["curve"]
                return curve
            curve = train(trainee, data, training, self.seed, unfinished, report)
            finished.save(Checkpoint(training.steps, trainee.state_dict(), {"curve": curve}))
            unfinished.clear()
        return curve

    def _check_measurable(self, trainee: Trainee, data: Data, training: TrainingConfig) -> None:
        held_out = data.held_out.fixed(training.evaluation_windows, self.seed)
        if not evaluate(trainee, held_out, training, self.seed):
            raise DataError(
                f"the held-out texts must hold something that {type(trainee.objectives[0]).__name__} can be measured "
                "on, and they do not: for words, a whole word in a window. Give more texts, or others as `validation`."
            )
