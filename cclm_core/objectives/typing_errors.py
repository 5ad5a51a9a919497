"""The base of objectives that make typing errors themselves and learn from them."""

import numpy as np

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.kinds import TYPING
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.noising import NoisedBatch, Noiser
from cclm_core.objectives.windowed import WindowObjective
from cclm_core.runtime.config import canonical_json


def error_kinds() -> dict[str, float]:
    """Kinds of typing errors, with equal weights."""
    return dict.fromkeys((*TYPING, "missing_space", "extra_space", "phonetic"), 1.0)


class TypingErrors(WindowObjective):
    """An objective on windows with errors of a recipe of its own, in training and in evaluation.

    Args:
        noise: the errors. The noise of the training is ignored.
        context: what the objective is built from.
    """

    def __init__(self, noise: NoiseRecipe, context: ObjectiveContext) -> None:
        super().__init__(context)
        self._errors = Noiser(noise, context.preprocessor, context.misspellings)

    @property
    def input_kind(self) -> str:
        """Objectives with the same errors can share a pass."""
        return f"windows with {canonical_json(self._errors.noise.canonical())}"

    @property
    def reads_clean_windows(self) -> bool:
        """False: the input has errors."""
        return False

    def noised(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> NoisedBatch:  # noqa: ARG002
        """The batch with errors, in training and in evaluation."""
        return self._errors(batch, generator)
