"""The parts of an ensemble, measured alone on the same texts: whether the ensemble is worth its price."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cclm_core.evaluation.best_part import WORSE, BestPart
from cclm_core.evaluation.metrics import Measurement, Metric
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import CLEAN
from cclm_core.finetuning.any_model import AnyTaskModel, Floats, texts_of
from cclm_core.finetuning.ensemble import Ensemble
from cclm_core.finetuning.ngram_model import NgramsModel
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.errors import ArtifactError


class Parts:
    """Predicts with an ensemble and with each of its parts, reading every text once per part.

    Args:
        model: the ensemble.
        others: name -> model of the parts that the ensemble was chosen from, used or not.

    Raises:
        ArtifactError: a used part is missing in `others`, or is another version.
    """

    def __init__(self, model: Ensemble, others: Mapping[str, AnyTaskModel]) -> None:
        self.model, self._models = model, dict(others)
        for name, part in model.named_parts():
            if name not in self._models or self._models[name].digest != part.digest:
                raise ArtifactError(f"the ensemble {model.name} has another version of {name}. Run `cclm run`.")
        self._seconds = dict.fromkeys(self._models, 0.0)
        self._num_texts = 0
        self._compared: BestPart | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(self._models)

    @property
    def has_ngrams(self) -> bool:
        """Whether a part is, or is named like, the baseline of n-grams."""
        return "ngrams" in self._models or any(isinstance(part, NgramsModel) for part in self._models.values())

    def predict(self, texts: Sequence[LabeledText]) -> dict[str, list[dict[str, Any]]]:
        """The predictions of the ensemble, under the name "", and of each part."""
        read, scores = texts_of(self.model, texts), dict[str, Floats]()
        for name, part in self._models.items():
            began = time.process_time()
            scores[name] = part.scores(read)
            self._seconds[name] += time.process_time() - began
        self._num_texts += len(texts)
        joined = self.model.join([scores[name] for name in self.model.card.parts], read)
        return {name: self.model.answers(rows, read) for name, rows in {"": joined, **scores}.items()}

    def compare(
        self, evaluation: Evaluation, test_set: str, metric: str, own: Measurement, alone: Mapping[str, Measurement]
    ) -> None:
        """Adds the paired differences of the ensemble to each part on one test set."""
        if self._compared is None:
            self._compared = BestPart(evaluation.bootstrap, evaluation.seed, "ensemble")
        gain, warnings = self._compared.add(test_set, metric, own, alone)
        suffix = "" if test_set == CLEAN else f"_{test_set}"
        evaluation.metrics[f"gain/{metric}{suffix}"] = gain
        evaluation.warnings += warnings

    def summarize(self, evaluation: Evaluation) -> None:
        """Adds the table of parts, and the number of test sets on which a part alone is better."""
        compared = self._compared or BestPart(evaluation.bootstrap, evaluation.seed, "ensemble")
        evaluation.tables["parts"] = compared.rows
        evaluation.metrics[WORSE] = Metric(value=compared.num_worse, better="lower")

    def milliseconds(self) -> dict[str, float]:
        """CPU milliseconds per text of each part, and of the ensemble: for reports, never for published files."""
        per_text = {name: 1000 * seconds / max(1, self._num_texts) for name, seconds in self._seconds.items()}
        own = sum(per_text[name] for name in self.model.card.parts)
        return {f"milliseconds_per_text/{name}": value for name, value in per_text.items()} | {
            "milliseconds_per_text": own
        }
