"""The evaluation of one composition: fit the probes, read the test sets, score."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.metrics import Metric
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe, Scoring
from cclm_core.evaluation.reading import Composed, Reader
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import TextSet
from cclm_core.evaluation.views import View, leaving_one_out, whole
from cclm_core.runtime.device import num_threads
from cclm_core.runtime.extras import require
from cclm_core.runtime.reporting import Report


def evaluate_composition(
    composed: Composed,
    corpus: EncodedCorpus,
    test_sets: Sequence[TextSet],
    config: EvaluationConfig,
    seed: int,
    report: Report,
) -> Evaluation:
    """Measures a frozen composition; equal inputs give equal figures.

    Args:
        composed: the composition, in evaluation mode; not changed.
        corpus: probes are fitted on its train split alone; its validation split chooses hyperparameters.
        test_sets: the clean test documents first, then each noise rate.
        config: the probes, the baselines, and how texts are read.
        seed: decides which documents and positions are read, the same for every composition.
        report: gets the number of finished steps, and at the end the characters per second and the total seconds.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn", "evaluation")
    result = Evaluation(config.bootstrap, seed)
    views = [whole(composed.width), *_leaving_one_out(composed, config, result)]
    reader = Reader(composed, config.batch_characters, config.window, config.precision)
    baselines: dict[str, object] = {member.baseline: member.build(corpus) for member in config.baselines}
    context = Context(reader, corpus, test_sets, config.variants, views, baselines, seed)
    numbers = [parameter.numel() for parameter in composed.parameters()]
    for name, number in {"parameters": sum(numbers), "width": composed.width}.items():
        result.metrics[name] = Metric(value=number, headline=True)
    probes: dict[str, Probe] = {member.probe: member.build(context) for member in config.probes}
    with num_threads(config.threads):
        _Evaluator(context, config.num_examples, result).run(probes, report)
    return result


def _leaving_one_out(composed: Composed, config: EvaluationConfig, result: Evaluation) -> list[View]:
    if not config.contributions or len(composed.columns) == 1:
        return []
    if not composed.columns:
        result.skipped["contributions"] = "the fusion mixes the features of its parts: none can be left out"
    return leaving_one_out(composed.width, composed.columns)


@dataclass
class _Evaluator:
    context: Context
    num_examples: int
    result: Evaluation
    fitted: list[Probe] = field(default_factory=list)

    def run(self, probes: dict[str, Probe], report: Report) -> None:
        began = time.perf_counter()
        steps: list[Callable[[], None]] = [partial(self._fit, *item) for item in probes.items()]
        steps += [partial(self._score, test_set) for test_set in self.context.test_sets]
        for number, step in enumerate(steps, 1):
            step()
            report(number, {}, len(steps))
        reader = self.context.reader
        speed = reader.characters / reader.seconds if reader.seconds else 0.0
        times = {"characters_per_second": speed, "evaluation_seconds": time.perf_counter() - began}
        report(len(steps), times, len(steps))

    def _fit(self, name: str, probe: Probe) -> None:
        try:
            self.result.chosen |= probe.fit()
        except NotMeasurable as reason:
            self.result.skipped[name] = str(reason)
            return
        self.fitted.append(probe)
        self.result.add(probe.measure())

    def _score(self, test_set: TextSet) -> None:
        """Scores all probes in one pass over the test set."""
        encoded = [self.context.corpus.preprocessor.encode(text) for text in test_set.texts]
        scorings = [scoring for probe in self.fitted if (scoring := probe.score(test_set, encoded)) is not None]
        for piece in self.context.reader.pieces(encoded) if scorings else ():
            for scoring in scorings:
                scoring.add(piece)
        curve: dict[str, Metric] = {}
        for scoring in scorings:
            curve |= self.result.add(scoring.figures(), test_set)
        if test_set.rate is not None:
            self.result.curve.append((test_set.rate, curve))
        if test_set in (self.context.test_sets[0], self.context.test_sets[-1]):
            self._show(test_set, scorings)

    def _show(self, test_set: TextSet, scorings: Sequence[Scoring]) -> None:
        """Adds the first documents with entities, or otherwise the first ones."""
        order = sorted(range(len(test_set.ids)), key=lambda place: (not test_set.entities[place], place))
        for place in order[: self.num_examples]:
            example = {"set": test_set.name, "id": test_set.ids[place], "text": test_set.texts[place]}
            for scoring in scorings:
                example |= scoring.example(place)
            self.result.examples.append(example)
