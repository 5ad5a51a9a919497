"""Next characters: predict the characters after each position, or before it, for causal encoders."""

import math
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.windowed import Noised, Targets, WindowObjective
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import END, FIRST_BYTE, NUM_SPECIAL

_NO_TARGET = -100  # ignored by cross-entropy
_CONTINUATION = (FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)
"""Ids of UTF-8 continuation bytes, as a half-open range."""


class NextCharactersConfig(Config):
    """How far ahead to predict, and in which direction."""

    objective: Literal["next_characters"] = "next_characters"
    num_ahead: int = Field(default=1, ge=1, le=16, description="number of characters to predict at each position")
    direction: Literal["forward", "backward"] = Field(
        default="forward",
        exclude_if=lambda value: value == "forward",
        description="forward: the characters after each position; backward: those before it, for a component that "
        "reads each text from its end and needs independent: true",
    )

    def build(self, context: ObjectiveContext) -> "NextCharacters":
        """Builds the objective with a new head."""
        return NextCharacters(self, context)


class NextCharacters(WindowObjective):
    """Cross-entropy of the next `num_ahead` characters, each with its own softmax over the same features.

    The end of a document is a target. At the end, the first character of the next document is a target: this models how
    texts begin, and makes the bits of all targets a code length of the corpus. Positions after the window are not
    targets. In training, the input has typing noise, and the targets are the clean characters after the last clean
    character that the model has read, so that swapped characters do not reveal a target.

    With `direction: backward`, the text is read from its end and the targets are the characters before each position,
    in the order of reading. The beginning of a document takes the place of its end.

    The selection metric counts characters and document ends. A rare character costs the sum of the bits of its bytes.

    Source: several characters ahead, Gloeckle et al. 2024 (arXiv 2404.19737), with linear heads.
    """

    selection_metric = "bits_per_character"

    def __init__(self, config: NextCharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config, self.num_ids = config, context.preprocessor.num_ids
        self.needs_causal = config.direction == "forward"
        self.needs_anticausal = not self.needs_causal
        self.head = nn.Linear(context.width, config.num_ahead * self.num_ids)

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:  # noqa: ARG002
        """Targets: `positions` (T,), and the `ids` (T, num_ahead) of the characters after each, in reading order."""
        backward, last = self.config.direction == "backward", batch.clean.ids.shape[1] - 1
        clean, source, is_input = batch.clean.ids, batch.noised.source, batch.noised.ids > 0
        if backward:
            clean, is_input = clean[:, ::-1], is_input[:, ::-1]
            source = np.where(source >= 0, last - source, -1)[:, ::-1]
        latest = np.maximum.accumulate(source, axis=1)
        # One column before, for positions before the first clean character; `num_ahead` after, for missing targets.
        clean = np.pad(clean, ((0, 0), (1, self.config.num_ahead)))
        # Noise can push the end of a row out of its window: nothing is known about it before the first clean character.
        has_target, columns = is_input & (latest >= 0) if backward else is_input, []
        for ahead in range(1, self.config.num_ahead + 1):
            ids = np.take_along_axis(clean, latest + 1 + ahead, axis=1)
            has_target &= (ids >= NUM_SPECIAL) | (ids == END)
            columns.append(np.where(has_target, ids, _NO_TARGET)[:, :: -1 if backward else 1].reshape(-1))
            has_target &= ids != END
        positions = np.flatnonzero(columns[0] != _NO_TARGET)
        return Targets({"positions": positions, "ids": np.stack(columns, axis=1)[positions]})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of all targets, with one metric per distance."""
        selected, ids = features.flatten(0, 1)[example.targets["positions"]], example.targets["ids"]
        logits = self.head(selected).float().view(-1, self.num_ids)
        losses = nn.functional.cross_entropy(logits, ids.flatten(), reduction="none").view(ids.shape)
        is_start = (ids != _NO_TARGET) & ((ids < _CONTINUATION[0]) | (ids >= _CONTINUATION[1]))
        bits = (losses.detach().sum(0) / math.log(2)).tolist()
        metrics = {
            self.selection_metric if ahead == 1 else f"{self.selection_metric}_{ahead}_ahead": Sums(total, number)
            for ahead, (total, number) in enumerate(zip(bits, is_start.sum(0).tolist(), strict=True), start=1)
        }
        return losses.sum() / (ids != _NO_TARGET).sum().clamp(min=1), metrics
