"""Objectives that read the windows of a batch, with noise and masks. Those with the same input can share one pass.

```
before_noise   each objective hides parts of the clean windows, such as whole words
noise          once for all of them
after_noise    each objective hides more characters, and makes its targets
```

A single objective goes through the same steps, so its examples do not depend on how they are made.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective
from cclm_core.objectives.noising import NoisedBatch
from cclm_core.text.vocabulary import MASK

Positions = npt.NDArray[np.int64]

_NOTHING: Positions = np.empty(0, dtype=np.int64)


class Hidden(NamedTuple):
    """What an objective masks before noise.

    Attributes:
        positions: (M,) int64, positions in the flattened clean batch.
        selection: anything that `after_noise` needs to know about the choice.
    """

    positions: Positions = _NOTHING
    selection: Any = None


class Noised(NamedTuple):
    """A batch after noise.

    Attributes:
        clean: the clean windows.
        noised: the windows after noise, with the masks of all objectives so far.
        selection: what the objective chose before noise.
        training: see `Objective.example`.
        progress: see `Objective.training_example`.
    """

    clean: WindowBatch
    noised: NoisedBatch
    selection: Any
    training: bool
    progress: float


class Targets(NamedTuple):
    """What an objective predicts, and what it masks after noise.

    Attributes:
        targets: name -> array; see `Example`.
        masked: (M,) int64, positions in the flattened noisy batch.
    """

    targets: dict[str, npt.NDArray[Any]]
    masked: Positions = _NOTHING


class WindowObjective(Objective):
    """An objective whose input is the windows of the batch, with noise and, if `masks`, with masks."""

    masks: ClassVar[bool] = False
    """Whether the objective masks characters. Objectives that mask share a pass, and so do those that do not."""

    @property
    def input_kind(self) -> str | None:
        """See `Objective.input_kind`."""
        return "masked windows" if self.masks else "windows"

    @property
    def reads_clean_windows(self) -> bool:
        """See `Objective.reads_clean_windows`."""
        return not self.masks and self._noiser.noise.rate == 0

    def before_noise(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Hidden:  # noqa: ARG002
        """Chooses what to mask in the clean `batch` before noise; nothing by default."""
        return Hidden()

    @abstractmethod
    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:
        """Makes the targets, and chooses what to mask after noise.

        Args:
            batch: the windows, clean and noisy.
            generator: the source of all randomness.
        """

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """See `Objective.example`."""
        return _examples([self], batch, [generator], training)[0]

    def training_example(self, batch: WindowBatch, generator: np.random.Generator, progress: float) -> Example:
        """See `Objective.training_example`."""
        return _examples([self], batch, [generator], True, progress)[0]


def shared_examples(
    objectives: Sequence[Objective],
    batch: WindowBatch,
    generators: Sequence[np.random.Generator],
    progress: float = 1.0,
) -> list[Example]:
    """Training examples, one per objective. Objectives with the same kind of input get the same tensor of ids.

    Noise is drawn once for each kind of input, and every objective sees the masks of the others.

    Args:
        objectives: the objectives, in the order in which they mask.
        batch: clean windows; not changed.
        generators: one for each objective.
        progress: see `Objective.training_example`.
    """
    examples: dict[int, Example] = {}
    groups: dict[str, list[int]] = {}
    for number, objective in enumerate(objectives):
        if isinstance(objective, WindowObjective) and objective.input_kind is not None:
            groups.setdefault(objective.input_kind, []).append(number)
        else:
            examples[number] = objective.training_example(batch, generators[number], progress)
    for numbers in groups.values():
        members = [objectives[number] for number in numbers]
        made = _examples(members, batch, [generators[number] for number in numbers], True, progress)
        examples |= dict(zip(numbers, made, strict=True))
    return [examples[number] for number in range(len(objectives))]


def _examples(
    objectives: Sequence[Any],
    batch: WindowBatch,
    generators: Sequence[np.random.Generator],
    training: bool,
    progress: float = 1.0,
) -> list[Example]:
    """Examples of window objectives with one input."""
    pairs = list(zip(objectives, generators, strict=True))
    hidden = [objective.before_noise(batch, generator, training) for objective, generator in pairs]
    masked = batch._replace(ids=_masked(batch.ids, [part.positions for part in hidden]))
    noised = objectives[0].noised(masked, generators[0], training)
    targets = []
    for (objective, generator), part in zip(pairs, hidden, strict=True):
        made = objective.after_noise(Noised(batch, noised, part.selection, training, progress), generator)
        noised = noised._replace(ids=_masked(noised.ids, [made.masked]))
        targets.append({name: torch.from_numpy(array) for name, array in made.targets.items()})
    ids = torch.from_numpy(noised.ids)
    return [Example(ids, part) for part in targets]


def _masked(ids: npt.NDArray[np.int64], positions: Sequence[Positions]) -> npt.NDArray[np.int64]:
    """A copy of `ids` (B, L) with masks at flattened positions; `ids` itself if there are none."""
    if not any(map(len, positions)):
        return ids
    masked = ids.copy()
    for part in positions:
        masked.reshape(-1)[part] = MASK
    return masked
