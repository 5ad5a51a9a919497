"""What contexts are worth: bits per masked character with contexts of each type, on the same masked characters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.contexts import ContextBatch, ContextName, ContextTexts
from cclm_core.evaluation.metrics import Bootstrap, Floats, Measurement, ratio

_BATCH = 32  # texts

Bits = Callable[[ContextBatch, int], tuple[Floats, Floats]]
"""Maps a batch and the number of its first text to the bits (B,) and the numbers (B,) of masked characters."""


@dataclass(frozen=True, kw_only=True)
class ContextResult:
    """The bits of each text under one condition.

    Attributes:
        name: type of the contexts.
        number: contexts per text, at most.
        rows: one per text: `document` (its row in the split), `type`, `number`, `contexts` (how many exist),
            `same_group` (how many of them are of the text's group), `bits`, `characters` (how many are masked).
    """

    name: ContextName
    number: int
    rows: list[dict[str, Any]]

    @property
    def measurement(self) -> Measurement:
        """Bits per masked character."""
        bits, characters = ([row[key] for row in self.rows] for key in ("bits", "characters"))
        return ratio(bits, characters, better="lower")


def evaluate_contexts(
    bits: Bits,
    texts: ContextTexts,
    conditions: Sequence[tuple[ContextName, int]],
    num_texts: int,
    seed: int,
) -> list[ContextResult]:
    """Measures a model under several conditions. Texts and masked characters are the same under all of them.

    Args:
        bits: measures a batch, with masks that depend only on its targets.
        texts: the held-out texts.
        conditions: type and number of the contexts.
        num_texts: texts per condition.
        seed: seed of the sample.
    """
    groups = texts.split.documents["group"].to_numpy(dtype=object)
    results = []
    for name, number in conditions:
        batch, rows = texts.with_type(name, number, num_texts, seed), []
        for start in range(0, batch.num_rows, _BATCH):
            part = batch.rows(start, start + _BATCH)
            for row, (value, size) in enumerate(zip(*bits(part, start), strict=True)):
                sources, document = part.sources[row][part.sources[row] >= 0], int(part.documents[row])
                facts = {"document": document, "type": name, "number": number, "contexts": len(sources)}
                facts["same_group"] = int((groups[sources] == groups[document]).sum())
                rows.append({**facts, "bits": float(value), "characters": int(size)})
        results.append(ContextResult(name=name, number=number, rows=rows))
    return results


def context_table(results: Sequence[ContextResult], bootstrap: Bootstrap, seed: int) -> list[dict[str, Any]]:
    """A row per condition: bits per masked character, and how many fewer than without contexts, with an interval.

    `gain` is also given for the texts of which at least one context is of the same group (`stratum` same_group), and
    of which none is (`other_group`).
    """
    without = next((result for result in results if result.name == "none" or result.number == 0), None)
    table = []
    for result in results:
        shares = np.array([row["same_group"] > 0 for row in result.rows])
        strata = {"all": np.ones(len(result.rows), dtype=bool), "same_group": shares, "other_group": ~shares}
        for stratum, selected in strata.items():
            if not selected.any() or (stratum != "all" and selected.all()):
                continue
            own = _selected(result.measurement, selected)
            row: dict[str, Any] = {
                "type": result.name,
                "number": result.number,
                "stratum": stratum,
                "texts": int(selected.sum()),
                "bits_per_masked_character": own.value,
            }
            row |= {"gain": "", "low": "", "high": ""}
            if without is not None and without is not result:
                difference = own.loss_without(_selected(without.measurement, selected))
                low, high = bootstrap.interval(difference, seed) or ("", "")
                row |= {"gain": difference.value, "low": low, "high": high}
            table.append(row)
    return table


def _selected(measurement: Measurement, rows: npt.NDArray[np.bool_]) -> Measurement:
    return Measurement(measurement.statistics[rows], measurement.formula, measurement.better)
