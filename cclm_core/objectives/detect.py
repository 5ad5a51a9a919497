"""Detecting typing errors: for each character, whether it is as the author typed it."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor, nn

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.denoise import NOTHING, target_edits
from cclm_core.objectives.noising import NoisedBatch
from cclm_core.objectives.typing_errors import TypingErrors, error_kinds
from cclm_core.objectives.windowed import Noised, Targets
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import END, NUM_SPECIAL


class DetectConfig(Config):
    """The errors to detect, and their weight."""

    objective: Literal["detect"] = "detect"
    noise: NoiseRecipe = Field(
        default_factory=lambda: NoiseRecipe(rate=0.05, kinds=error_kinds()),
        description="the errors to detect, in training and on held-out text; training_noise is ignored",
    )
    error_weight: float = Field(default=2.0, gt=0, description="loss weight of an error; others have weight 1")

    def build(self, context: ObjectiveContext) -> "Detect":
        """Builds the objective with a new head."""
        return Detect(self, context)


class Detect(TypingErrors):
    """Logistic loss of one bit per character: whether an error was made at it.

    An error is a wrong or superfluous character, or one before which characters are missing. The characters of a swap
    are both wrong. The end of a document is judged like a character, so that a missing last character is an error. If
    several edits give the same text, as in "occcur", the last of the equal letters is the wrong one; see `denoise`.

    Held-out metrics: bits per character, without the weight; the share of errors (`error_share`); accuracy, to compare
    with 1 - error_share; and F1, recall and precision of errors at a probability of one half.

    Source: replaced token detection of ELECTRA (Clark et al. 2020, arXiv 2003.10555), with typing errors as the
    generator.
    """

    selection_metric = "bits_per_detection"

    def __init__(self, config: DetectConfig, context: ObjectiveContext) -> None:
        super().__init__(config.noise, context)
        self.config = config
        self.head = nn.Linear(context.width, 1)

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:  # noqa: ARG002
        """Targets: `positions` (T,) of characters and ends of documents, and `labels` (T,): 1 at an error."""
        ids = batch.noised.ids
        positions = np.flatnonzero((ids >= NUM_SPECIAL) | (ids == END))
        labels = errors(batch.clean.ids, batch.noised).reshape(-1)[positions]
        return Targets({"positions": positions, "labels": labels.astype(np.int64)})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Weighted mean of the logistic loss. The metrics are unweighted."""
        labels = example.targets["labels"]
        logits = self.head(features.flatten(0, 1)[example.targets["positions"]]).float()[:, 0]
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        is_error, proposed = labels == 1, logits.detach() > 0
        weights = (is_error * (self.config.error_weight - 1) + 1).to(losses.dtype)
        number, num_errors, num_proposed = len(labels), int(is_error.sum()), int(proposed.sum())
        correct = int((is_error & proposed).sum())
        num_wrong = num_errors + num_proposed - 2 * correct
        return (losses * weights).sum() / weights.sum().clamp(min=1), {
            self.selection_metric: Sums(losses.detach().sum().item() / math.log(2), number),
            "error_share": Sums(num_errors, number),
            "detection_accuracy": Sums(number - num_wrong, number),
            "detection_f1": Sums(2 * correct, num_errors + num_proposed),
            "errors_detected": Sums(correct, num_errors),
            "detections_right": Sums(correct, num_proposed),
        }


def errors(clean: npt.NDArray[np.int64], noised: NoisedBatch) -> npt.NDArray[np.bool_]:
    """Whether each character of noisy windows is wrong, superfluous, or has characters missing before it: (B, L) bool.

    "the cat" → "hte caat": h and t are wrong (swapped), and so is the second a (superfluous).

    Args:
        clean: (B, L), ids before noise.
        noised: the same windows after noise.
    """
    # With an END before each row, characters that are missing at its start are missing after that END.
    end = np.full_like(noised.ids[:, :1], END)
    ids, source = np.hstack([end, noised.ids]), np.hstack([end * 0, noised.source + (noised.source >= 0)])
    if not noised.ids.shape[1]:
        return np.zeros(noised.ids.shape, dtype=bool)
    here, after = target_edits(np.hstack([end, clean]), noised._replace(ids=ids, source=source))
    is_missing = (after != NOTHING) & (after >= 0)
    wrong: npt.NDArray[np.bool_] = (here != ids)[:, 1:] | is_missing[:, :-1]
    return wrong
