"""What an evaluation measured."""

from dataclasses import dataclass, field
from typing import Any

from cclm_core.evaluation.classes import ClassScore
from cclm_core.evaluation.views import contributions

BITS, GENRE = "bits_per_masked_character", "genre_accuracy"
"""Figures that are told for the composition without each component too; so is the entity F1 of every test set."""


@dataclass
class Evaluation:
    """What was measured.

    Attributes:
        metrics: the figures, by name.
        skipped: what could not be measured, and why.
        curve: figures by noise rate, one row for each test set.
        entities: figures by noise rate and entity label.
        genres: how the labels of clean documents were predicted; None if that was skipped.
        chosen: what the validation documents chose: the penalty of the class readout, the bonus of the tags.
        examples: test documents with what was wanted and what was predicted.
        without: for each component the figures of the composition without its features, by name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    entities: list[dict[str, Any]] = field(default_factory=list)
    genres: ClassScore | None = None
    chosen: dict[str, float] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    without: dict[str, dict[str, float]] = field(default_factory=dict)

    def contributions(self) -> list[dict[str, Any]]:
        """For each component and metric how much worse the figure is without the component: see `contributions`."""
        return contributions(self.metrics, self.without, [BITS])
