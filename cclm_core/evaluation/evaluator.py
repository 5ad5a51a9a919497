"""Evaluates one composition: fits the probes, reads the test sets, and scores the predictions."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.metrics import Metric
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe, Scorer
from cclm_core.evaluation.reading import Composed, Reader
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import TextSet
from cclm_core.evaluation.views import Parts
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
    """Evaluates a frozen composition. Equal inputs give equal results.

    Args:
        composed: the composition, in evaluation mode; not changed.
        corpus: probes are fitted on its train split; its validation split selects hyperparameters.
        test_sets: the clean test set first, then the noise sets.
        config: probes, baselines, and how texts are read.
        seed: selects documents and positions; use the same seed for all compositions.
        report: receives the number of finished steps, and finally the speed and the CPU time of this process.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn", "evaluation")
    result = Evaluation(config.bootstrap, seed)
    reader = Reader(composed, config.batch_characters, config.window, config.precision)
    baselines: dict[str, object] = {member.baseline: member.build(corpus) for member in config.baselines}
    parts, noise = _parts(composed, config, result), config.selection_noise
    context = Context(reader, corpus, test_sets, config.variants, parts, baselines, seed, noise)
    num_parameters = sum(parameter.numel() for parameter in composed.parameters())
    for name, size in {"parameters": num_parameters, "width": composed.width}.items():
        result.metrics[name] = Metric(value=size, headline=True)
    probes: dict[str, Probe] = {member.probe: member.build(context) for member in config.probes}
    with num_threads(config.threads):
        _Evaluator(context, config.num_examples, result).run(probes, report)
    return result


def _parts(composed: Composed, config: EvaluationConfig, result: Evaluation) -> Parts:
    if not config.contributions or len(composed.columns) == 1:
        return Parts(composed.width)
    if not composed.columns:
        result.skipped["contributions"] = "the fusion mixes the features of its parts, so no part can be left out"
    return Parts(composed.width, composed.columns, config.select_parts)


@dataclass
class _Evaluator:
    context: Context
    num_examples: int
    result: Evaluation
    fitted: list[Probe] = field(default_factory=list)

    def run(self, probes: dict[str, Probe], report: Report) -> None:
        """Fits all probes, then scores every test set."""
        began = time.process_time()
        steps: list[Callable[[], None]] = [partial(self._fit, *item) for item in probes.items()]
        steps += [partial(self._score, test_set) for test_set in self.context.test_sets]
        for number, step in enumerate(steps, 1):
            step()
            report(number, {}, len(steps))
        reader = self.context.reader
        speed = reader.characters / reader.cpu_seconds if reader.cpu_seconds else 0.0
        # CPU time of this process, so that other stages on the same machine do not change it.
        times = {"characters_per_cpu_second": speed, "evaluation_cpu_seconds": time.process_time() - began}
        report(len(steps), times, len(steps))

    def _fit(self, name: str, probe: Probe) -> None:
        try:
            self.result.hyperparameters |= probe.fit()
        except NotMeasurable as reason:
            self.result.skipped[name] = str(reason)
            return
        self.fitted.append(probe)
        if self.context.parts.columns:
            self.result.tables.setdefault("parts", []).extend(
                {"probe": name, "component": part, "read": part in probe.read} for part in self.context.parts.columns
            )
        if probe.choice is not None:
            self.result.choices[name] = probe.choice.described()
            self.result.warnings += [f"probe {name}: {warning}" for warning in probe.choice.warnings]
        self.result.add(probe.measure())

    def _score(self, test_set: TextSet) -> None:
        """Scores all probes in a single pass over the test set."""
        encoded = [self.context.corpus.preprocessor.encode(text) for text in test_set.texts]
        scorers = [scorer for probe in self.fitted if (scorer := probe.scorer(test_set, encoded)) is not None]
        for piece in self.context.reader.pieces(encoded) if scorers else ():
            for scorer in scorers:
                scorer.add(piece)
        curve: dict[str, Metric] = {}
        for scorer in scorers:
            curve |= self.result.add(scorer.result(), test_set)
        if test_set.rate is not None:
            self.result.curve.append((test_set.rate, curve))
        if test_set in (self.context.test_sets[0], self.context.test_sets[-1]):
            self._add_examples(test_set, scorers)

    def _add_examples(self, test_set: TextSet, scorers: Sequence[Scorer]) -> None:
        """Adds the first `num_examples` documents with a truth or a prediction, those with entities first."""
        order = sorted(range(len(test_set.ids)), key=lambda index: (not test_set.entities[index], index))
        rows = ((index, [scorer.example(index) for scorer in scorers]) for index in order)
        for index, shown in islice((row for row in rows if any(row[1])), self.num_examples):
            example: dict[str, Any] = {"set": test_set.name, "id": test_set.ids[index], "text": test_set.texts[index]}
            for values in shown:
                example |= values
            self.result.examples.append(example)
