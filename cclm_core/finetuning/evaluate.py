"""Measures the model of a task on its test texts: clean, under noise, by slices, next to a baseline."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cclm_core.corpus.records import Entity
from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric
from cclm_core.evaluation.probe import ProbeResult, small_sample_warnings
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import CLEAN, TextSet
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.finetuning.outcomes import texts_digest
from cclm_core.labeled.examples import LabeledText
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.random import derive
from cclm_core.runtime.reporting import Report

MIN_SLICE = 20
"""Slices with fewer texts are left out."""
_LENGTHS = (0, 20, 50, 100, 200, 500)
_MAX_EXAMPLES = 200

Predictor = Callable[[Sequence[LabeledText]], list[dict[str, Any]]]
"""Predicts texts; see `TaskModel.predict`."""


@dataclass(frozen=True, kw_only=True)
class NoiseSet:
    """A copy of the test texts with noise.

    Attributes:
        name: `noise_RATE`, or the name of a set in `noise.sets`.
        rate: edits per letter; None for a set in `noise.sets`.
        recipe: the noise.
    """

    name: str
    rate: float | None
    recipe: NoiseRecipe


@dataclass
class TaskEvaluation:
    """The results of `evaluate_task`.

    Attributes:
        evaluation: metrics, tables, examples and warnings.
        outcomes: per test set, metric and text: the statistics from which the metric is computed. Two models can be
            compared on the same texts.
        texts: test set -> the digest of its texts; see `texts_digest`.
    """

    evaluation: Evaluation
    outcomes: list[dict[str, Any]]
    texts: dict[str, str] = field(default_factory=dict)


def evaluate_task(
    model: TaskModel,
    train: Sequence[LabeledText],
    test: Sequence[LabeledText],
    noise_sets: Sequence[NoiseSet],
    spellings: Spellings,
    seed: int,
    bootstrap: Bootstrap,
    report: Report,
) -> TaskEvaluation:
    """Measures a model on its test texts. Equal inputs give equal results.

    The baseline of a classification is n-grams with logistic regression, fitted on the same training texts; see
    `Ngrams`.

    Args:
        model: the model.
        train: the training texts, for the baseline and for seen entities.
        test: the test texts.
        noise_sets: the noisy copies to measure.
        spellings: misspellings for the kind `misspelling`.
        seed: seed of the noise and the intervals.
        bootstrap: settings of the intervals.
        report: receives the number of measured sets.
    """
    result = TaskEvaluation(Evaluation(bootstrap, seed), [])
    evaluation = result.evaluation
    predictors: dict[str, Predictor] = {"": model_predictor(model)}
    if model.task == "classify" and not model.is_pair:
        predictors["ngrams"] = _ngrams(model, train)
    evaluation.metrics["parameters"] = Metric(value=sum(weight.numel() for weight in model.parameters()), headline=True)
    texts, steps = list(test), 1 + len(noise_sets)
    predictions = {name: predict(texts) for name, predict in predictors.items()}
    measured = _add(result, model, texts, predictions, None)
    evaluation.tables |= _tables(model, train, texts, predictions[""], bootstrap, seed)
    evaluation.examples += _examples(texts, predictions[""])
    evaluation.warnings += small_sample_warnings(
        HEADLINES[model.task], len(texts), len(texts), "the test split is small"
    )
    clean = evaluation.add(ProbeResult(measured), TextSet(CLEAN, 0.0, [], [], [], []))
    evaluation.curve.append((0.0, clean))
    report(1, {}, steps)
    for number, noise_set in enumerate(noise_sets, start=2):
        noised = noised_texts(texts, TextNoiser(noise_set.recipe, spellings), seed, noise_set.name)
        predictions = {name: predict(noised) for name, predict in predictors.items()}
        text_set = TextSet(noise_set.name, noise_set.rate, [], [], [], [])
        _add(result, model, noised, predictions, text_set)
        report(number, {}, steps)
    return result


def model_predictor(model: TaskModel) -> Predictor:
    """A function that predicts labeled texts with a model; the words of a tagged text are known."""

    def predict(texts: Sequence[LabeledText]) -> list[dict[str, Any]]:
        """Predicts texts."""
        if model.task == "tag" and all(text.words for text in texts):
            return model.predict_words([text.text for text in texts], [text.words for text in texts])
        if model.is_pair:
            return model.predict([(text.text, str(text.second)) for text in texts])
        return model.predict([text.text for text in texts])

    return predict


def noised_texts(texts: Sequence[LabeledText], noiser: TextNoiser, seed: int, name: str) -> list[LabeledText]:
    """Noisy copies of texts; words and entities move with their characters, and lost ones are left out."""
    words = [
        [Entity(start, end, str(number)) for number, (start, end) in enumerate(text.words)] or list(text.entities)
        for text in texts
    ]
    generator = derive(seed, "task", "noise", name)
    results = noiser.batch([text.text for text in texts], generator, words)
    seconds = noiser.batch([text.second or "" for text in texts], generator)
    noised = []
    for text, result, second in zip(texts, results, seconds, strict=True):
        changes: dict[str, Any] = {"text": result.text, "second": None if text.second is None else second.text}
        if text.words:
            moved = {int(word.label): (word.start, word.end) for word in result.entities}
            changes |= {"words": tuple(moved.values()), "entities": _moved(text, moved)}
        else:
            changes |= {"entities": tuple(result.entities) if text.entities else ()}
        noised.append(replace(text, **changes))
    return noised


def _moved(text: LabeledText, moved: Mapping[int, tuple[int, int]]) -> tuple[Entity, ...]:
    """The entities around the words that remain."""
    entities = []
    for entity in text.entities:
        inside = [
            moved[number]
            for number, (start, end) in enumerate(text.words)
            if number in moved and start < entity.end and end > entity.start
        ]
        if inside:
            entities.append(Entity(inside[0][0], inside[-1][1], entity.label))
    return tuple(entities)


def _ngrams(model: TaskModel, train: Sequence[LabeledText]) -> Predictor:
    known = [text for text in train if text.label in model.labels]
    ngrams = Ngrams(NgramsConfig(), model.labels).fit(
        [text.text for text in known], [str(text.label) for text in known]
    )

    def predict(texts: Sequence[LabeledText]) -> list[dict[str, Any]]:
        """Predicts texts."""
        return [{"label": label} for label in ngrams.predict([text.text for text in texts])]

    return predict


def _add(
    result: TaskEvaluation,
    model: TaskModel,
    texts: Sequence[LabeledText],
    predictions: Mapping[str, list[dict[str, Any]]],
    text_set: TextSet | None,
) -> dict[str, Measurement]:
    """Adds the metrics of one test set, and the outcomes of the model. Returns its measurements."""
    measured = {name: measure(model.task, texts, rows) for name, rows in predictions.items()}
    own, baselines = measured.pop(""), measured
    curve = result.evaluation.add(ProbeResult(own, baselines), text_set)
    if text_set is not None and text_set.rate is not None:
        result.evaluation.curve.append((text_set.rate, curve))
    name = CLEAN if text_set is None else text_set.name
    headline = HEADLINES[model.task]
    result.texts[name] = texts_digest(texts)
    result.outcomes += [
        {"id": text.id, "set": name, "metric": headline, "statistics": statistics}
        for text, statistics in zip(texts, own[headline].statistics.tolist(), strict=True)
    ]
    return own


def _tables(
    model: TaskModel,
    train: Sequence[LabeledText],
    texts: Sequence[LabeledText],
    predictions: Sequence[dict[str, Any]],
    bootstrap: Bootstrap,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """slices.csv, and confusion.csv for one label per text."""
    rows: list[dict[str, Any]] = []
    headline = HEADLINES[model.task]
    for (kind, value), numbers in _slices(train, texts).items():
        if len(numbers) < MIN_SLICE:
            continue
        parts = [texts[number] for number in numbers], [predictions[number] for number in numbers]
        measured = measure(model.task, *parts)[headline]
        low, high = bootstrap.interval(measured, seed) or ("", "")
        row = {"slice": kind, "value": value, "texts": len(numbers), "metric": headline}
        rows.append(row | {"score": measured.value, "low": low, "high": high})
    tables = {"slices": rows}
    if model.task == "classify":
        tables["confusion"] = [
            {"id": text.id, "true": text.label, "predicted": prediction["label"]}
            for text, prediction in zip(texts, predictions, strict=True)
        ]
    return tables


def _slices(train: Sequence[LabeledText], texts: Sequence[LabeledText]) -> dict[tuple[str, str], list[int]]:
    """Slice column and value -> the numbers of its texts: by label, length, the user's columns, seen entities."""
    seen = {text.text[span.start : span.end].casefold() for text in train for span in text.entities}
    slices: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        length = max(bound for bound in _LENGTHS if len(text.text) >= bound)
        keys = [("label", label) for label in [text.label, *text.labels] if label is not None]
        keys += [("label", label) for label in sorted({span.label for span in text.entities})]
        keys += [("characters", f"{length} or more"), *text.slices.items()]
        if text.entities:
            known = [text.text[span.start : span.end].casefold() in seen for span in text.entities]
            keys.append(("entities", "all seen in training" if all(known) else "some not seen in training"))
        for key in keys:
            slices[key].append(number)
    return dict(sorted(slices.items()))


def _examples(texts: Sequence[LabeledText], predictions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The texts with their targets and predictions, for predictions.jsonl."""
    examples = []
    for text, prediction in list(zip(texts, predictions, strict=True))[:_MAX_EXAMPLES]:
        gold: dict[str, Any] = {"label": text.label, "labels": list(text.labels), "value": text.value}
        gold["entities"] = [span._asdict() for span in text.entities]
        predicted = {name: value for name, value in prediction.items() if name != "scores"}
        given = {name: value for name, value in gold.items() if value not in (None, [])}
        examples.append(
            {"id": text.id, "text": text.text, "second": text.second, "gold": given, "predicted": predicted}
        )
    return examples
