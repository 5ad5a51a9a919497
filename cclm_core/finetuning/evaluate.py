"""Measures the model of a task on its test texts: clean, under noise, by slices, next to a baseline."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cclm_core.evaluation.metrics import Bootstrap, Measurement, Metric
from cclm_core.evaluation.probe import ProbeResult, small_sample_warnings
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import CLEAN, TextSet
from cclm_core.finetuning.any_model import AnyTaskModel, texts_of
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.finetuning.noised import noised_texts as noised_texts
from cclm_core.finetuning.outcomes import texts_digest
from cclm_core.finetuning.parts import Parts
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.finetuning.words import tags_of_texts
from cclm_core.labeled.examples import LabeledText
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.reporting import Report

MIN_SLICE = 20
"""Slices with fewer texts are left out."""
_LENGTHS = (0, 20, 50, 100, 200, 500)
_MAX_EXAMPLES = 200

Predictor = Callable[[Sequence[LabeledText]], list[dict[str, Any]]]
"""Predicts texts; see `AnyTaskModel.predict`."""


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
    model: AnyTaskModel,
    train: Sequence[LabeledText],
    test: Sequence[LabeledText],
    noise_sets: Sequence[NoiseSet],
    spellings: Spellings,
    seed: int,
    bootstrap: Bootstrap,
    report: Report,
    parts: Parts | None = None,
) -> TaskEvaluation:
    """Measures a model on its test texts. Equal inputs give equal results.

    The baseline of a classification or of tags is n-grams with logistic regression, fitted on the same training texts;
    see `Ngrams` and `TagNgrams`.

    Args:
        model: the model.
        train: the training texts, for the baseline and for seen entities.
        test: the test texts.
        noise_sets: the noisy copies to measure.
        spellings: misspellings for the kind `misspelling`.
        seed: seed of the noise and the intervals.
        bootstrap: settings of the intervals.
        report: receives the number of measured sets.
        parts: for an ensemble, its parts, which are measured on the same texts; see `Parts`.
    """
    result = TaskEvaluation(Evaluation(bootstrap, seed), [])
    evaluation = result.evaluation
    predict = _all_predictors(model, train, parts)
    evaluation.metrics["parameters"] = Metric(value=sum(weight.numel() for weight in model.parameters()), headline=True)
    texts, steps = list(test), 1 + len(noise_sets)
    predictions = predict(texts)
    measured = _add(result, model, texts, predictions, None, parts)
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
        text_set = TextSet(noise_set.name, noise_set.rate, [], [], [], [])
        _add(result, model, noised, predict(noised), text_set, parts)
        report(number, {}, steps)
    if parts is not None:
        parts.summarize(evaluation)
        report(steps, parts.milliseconds(), steps)
    return result


def model_predictor(model: AnyTaskModel) -> Predictor:
    """A function that predicts labeled texts with a model; the words of a tagged text are known."""

    def predict(texts: Sequence[LabeledText]) -> list[dict[str, Any]]:
        """Predicts texts."""
        if model.task == "tag" and all(text.words for text in texts):
            return model.predict_words([text.text for text in texts], [text.words for text in texts])
        if model.is_pair:
            return model.predict([(text.text, str(text.second)) for text in texts])
        return model.predict([text.text for text in texts])

    return predict


def _all_predictors(
    model: AnyTaskModel, train: Sequence[LabeledText], parts: Parts | None
) -> Callable[[Sequence[LabeledText]], dict[str, list[dict[str, Any]]]]:
    """A function that predicts texts with the model, as "", with its parts, and with the baseline."""
    baselines: dict[str, Predictor] = {}
    has_counts = parts is not None and parts.has_ngrams
    if model.task in ("classify", "tag") and not model.is_pair and not has_counts:
        baselines["ngrams"] = _tag_ngrams(model, train) if model.task == "tag" else _ngrams(model, train)
    own = model_predictor(model)

    def predict(texts: Sequence[LabeledText]) -> dict[str, list[dict[str, Any]]]:
        """Name -> predictions."""
        predictions = {"": own(texts)} if parts is None else parts.predict(texts)
        return predictions | {name: baseline(texts) for name, baseline in baselines.items()}

    return predict


def _ngrams(model: AnyTaskModel, train: Sequence[LabeledText]) -> Predictor:
    known = [text for text in train if text.label in model.labels]
    ngrams = Ngrams(NgramsConfig(), model.labels).fit(
        [text.text for text in known], [str(text.label) for text in known]
    )

    def predict(texts: Sequence[LabeledText]) -> list[dict[str, Any]]:
        """Predicts texts."""
        return [{"label": label} for label in ngrams.predict([text.text for text in texts])]

    return predict


def _tag_ngrams(model: AnyTaskModel, train: Sequence[LabeledText]) -> Predictor:
    known = texts_of(model, train)
    ngrams = TagNgrams(NgramsConfig(), model.labels).fit(known, tags_of_texts(train, known.words, model.labels))

    def predict(texts: Sequence[LabeledText]) -> list[dict[str, Any]]:
        """Predicts texts."""
        read = texts_of(model, texts)
        return entity_answers(read.texts, read.words, read.by_text(ngrams.scores(read)), model.labels)

    return predict


def _add(
    result: TaskEvaluation,
    model: AnyTaskModel,
    texts: Sequence[LabeledText],
    predictions: Mapping[str, list[dict[str, Any]]],
    text_set: TextSet | None,
    parts: Parts | None,
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
    if parts is not None:
        alone = {part: values[headline] for part, values in baselines.items() if part in parts.names}
        parts.compare(result.evaluation, name, headline, own[headline], alone)
    result.outcomes += [
        {"id": text.id, "set": name, "metric": headline, "statistics": statistics}
        for text, statistics in zip(texts, own[headline].statistics.tolist(), strict=True)
    ]
    return own


def _tables(
    model: AnyTaskModel,
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
