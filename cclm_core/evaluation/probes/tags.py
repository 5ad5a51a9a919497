"""The tags probe: predicts a BIO tag for each character, and from them entity spans."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.composition.long_texts import Piece
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.baselines.base import TagBaseline
from cclm_core.evaluation.candidates import MIN_CHOSEN
from cclm_core.evaluation.held_out import HeldOut, group_numbers
from cclm_core.evaluation.linear_probe import LinearProbe, LinearProbeConfig, fit
from cclm_core.evaluation.metrics import Measurement, f1, quotient
from cclm_core.evaluation.part_choice import choose_parts
from cclm_core.evaluation.probe import (
    Context,
    Encoded,
    NotMeasurable,
    Probe,
    ProbeResult,
    Scorer,
    small_sample_warnings,
)
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import TextSet, limit_ids, shuffled
from cclm_core.evaluation.spans import (
    MAX_INSIDE_WORDS,
    Scores,
    SpanScore,
    TextSpans,
    gold_spans,
    spans_inside_words,
    spans_of_texts,
)
from cclm_core.evaluation.tag_parts import TagsFitter, noised_copies, tag_scores
from cclm_core.evaluation.tag_sampling import Tagged, sample_rows, select_tagged, tagged_documents
from cclm_core.evaluation.views import Parts, View
from cclm_core.runtime.config import Config
from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import Preprocessor


class TagsProbeConfig(Config):
    """Entity spans, from a BIO tag predicted for each character.

    Attributes:
        linear_probe: how the probe is fitted.
    """

    probe: Literal["tags"] = "tags"
    train_characters: int = Field(default=200_000, ge=1, description="ids of training documents to read")
    entity_share: float = Field(
        default=0.75, gt=0, le=1, description="share of them from documents with entities, if there are enough"
    )
    rows: int = Field(default=80_000, ge=1, description="maximum number of characters to fit on, approximately")
    margin: int = Field(default=3, ge=0, description="characters around an entity to prefer in sampling")
    linear_probe: LinearProbeConfig = LinearProbeConfig(learning_rate=0.01, weight_decay=0.01)
    validation_characters: int = Field(
        default=100_000, ge=0, description="ids of validation documents to select the bonus with"
    )
    bonuses: tuple[float, ...] = Field(
        default=(0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5),
        min_length=1,
        description="bonuses of all tags except O to select from, in nats",
    )
    word_boundaries: bool = Field(
        default=True,
        description="forbid spans to start or end inside a word; ignored if over 2 % of those in training do",
    )

    def build(self, context: Context) -> "TagsProbe":
        """The unfitted probe."""
        return TagsProbe(self, context)

    def metric_names(self, test_sets: Sequence[str]) -> list[str]:
        """The names of the metrics on these test sets, if the corpus has entities."""
        return [f"{metric}_{name}" for name in test_sets for metric in (_F1, "entity_precision", "entity_recall")]


class Tagger(NamedTuple):
    """Scores BIO tags with a linear probe, and adds a bonus, in nats, to all tags except O.

    Entities are rare, so the most likely tags miss most of them. The bonus balances precision and recall.
    """

    probe: LinearProbe
    bonus: float = 0.0

    def scores(self, features: Tensor) -> Scores:
        """Tag scores (L, 1 + 2K) from `features` (L, W)."""
        return add_bonus(self.probe.log_probabilities(features).numpy(), self.bonus)


def add_bonus(scores: Scores, bonus: float) -> Scores:
    """The tag scores (L, 1 + 2K), with `bonus` added to all tags except O."""
    return scores + np.where(np.arange(scores.shape[1]) > 0, bonus, 0).astype(np.float32)


class TagRows(NamedTuple):
    """Training data of a tags probe, one row per character.

    Attributes:
        features: (N, W).
        targets: (N,) int64, the gold tags.
        weights: (N,) number of characters that each row represents.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor


class TagsProbe(Probe):
    """Predicts entity spans in the test sets from all features, and from those without each component."""

    def __init__(self, config: TagsProbeConfig, context: Context) -> None:
        self.config, self.corpus = config, context.corpus
        self.baselines = {
            name: baseline for name, baseline in context.baselines.items() if isinstance(baseline, TagBaseline)
        }
        self.taggers: dict[str, Tagger] = {}  # by the component that they leave out
        self.alone: dict[str, Tagger] = {}  # by the only component that they read
        self.inside_words = 0.0  # share of the spans in training that start or end inside a word
        self._context = context

    def fit(self) -> dict[str, float]:
        """See `Probe.fit`."""
        if not any(spans for test_set in self._context.test_sets for spans in test_set.entities):
            raise NotMeasurable("the test documents have no entities")
        context, config = self._context, self.config
        documents = shuffled(context.documents("train"), context.seed, "documents", "tags")
        tagged = select_tagged(self.corpus.split("train"), documents, config.train_characters, config.entity_share)
        if not any(text.any() for text in tagged.tags):
            raise NotMeasurable("the training documents have no entities")
        self.config = config = self._without_broken_rule(tagged)
        rows = tag_rows(context.reader, tagged, config, context.seed)
        documents = shuffled(context.documents("validation"), context.seed, "documents", "tags", "validation")
        documents = limit_ids(documents, config.validation_characters)
        held_out = tagged_documents(self.corpus.split("validation"), documents)
        if not self._choose(rows, held_out, group_numbers(documents)):
            self._read_all(rows, held_out)
        self._fit_baselines()
        found = {"tag_bonus": self.taggers[""].bonus}
        return found | ({"tag_spans_inside_words": self.inside_words} if self.inside_words else {})

    def _read_all(self, rows: TagRows, held_out: Tagged) -> None:
        """Fits a probe on the features of all components, and those without each component."""
        context, config = self._context, self.config
        views = context.parts.all_views()
        probes = [fit_tags(rows, len(self.corpus.entity_labels), config, context.seed, view) for view in views]
        selected = select_bonuses(context.reader, probes, held_out, self.corpus, config)
        self.taggers = {view.left_out: tagger for view, (tagger, _) in zip(views, selected, strict=True)}
        self.read = views[0].read

    def _choose(self, rows: TagRows, held_out: Tagged, groups: npt.NDArray[np.int64]) -> bool:
        """Chooses which components are read, and how, if there are several and enough validation documents."""
        context, names = self._context, self._context.parts.choosable
        if not names or len(held_out.texts) < MIN_CHOSEN or not any(text.any() for text in held_out.tags):
            return False
        levels = [held_out, *noised_copies(held_out, context.noise, self.corpus, context.seed)]
        number, num_labels = len(held_out.texts), len(self.corpus.entity_labels)
        owners = [np.repeat(np.arange(number), [len(ids) for ids in level.texts]) for level in levels]
        data = HeldOut(
            "tag",
            context.noise.level_weights(),
            np.concatenate([tags for level in levels for tags in level.tags]).astype(np.int64),
            np.concatenate([row * number + own for row, own in enumerate(owners)]),
            groups,
        )
        fitter = TagsFitter(
            context.parts,
            context.reader,
            levels,
            lambda view: fit_tags(rows, num_labels, self.config, context.seed, view),
        )
        self.choice = choice = choose_parts(names, data, fitter, context.seed)
        alone = [choice.alone(part) for part in range(len(names))]
        rests = {part: rest for part in choice.chosen.parts if (rest := choice.rest(part)) is not None}
        taggers: dict[int, Tagger] = {}
        for candidate in (choice.chosen, *rests.values(), *alone):
            if id(candidate) not in taggers:
                bonus = self._bonus(fitter.level_scores(candidate), levels, [*data.level_weights.values()])
                taggers[id(candidate)] = Tagger(fitter.probe(candidate), bonus)
        own = taggers[id(choice.chosen)]
        self.read = tuple(names[part] for part in choice.chosen.parts)
        self.taggers = {"": own} | {name: own for name in names if name not in self.read}
        self.taggers |= {names[part]: taggers[id(rest)] for part, rest in rests.items()}
        self.alone = {name: taggers[id(entry)] for name, entry in zip(names, alone, strict=True)}
        return True

    def _bonus(self, scores: Sequence[Sequence[Scores]], levels: Sequence[Tagged], weights: Sequence[float]) -> float:
        """The bonus with the highest F1, the weighted mean over the levels of noise."""
        values = [
            bonus_values(own, level, self.corpus.preprocessor, self.corpus.entity_labels, self.config)
            for own, level in zip(scores, levels, strict=True)
        ]
        means = {bonus: sum(w * own[bonus] for w, own in zip(weights, values, strict=True)) for bonus in values[0]}
        return max(means, key=lambda bonus: means[bonus])

    def scorer(self, test_set: TextSet, encoded: Encoded) -> Scorer:
        """See `Probe.scorer`."""
        return TagScorer(self, test_set, encoded)

    def _without_broken_rule(self, tagged: Tagged) -> TagsProbeConfig:
        """The configuration, without the rule about words if the training documents break it too often."""
        preprocessor, labels = self.corpus.preprocessor, self.corpus.entity_labels
        num_inside, num_spans = 0, 0
        for ids, tags in zip(tagged.texts, tagged.tags, strict=True):
            if tags.any():
                spans = gold_spans(ids, tags, preprocessor, labels)
                num_inside += spans_inside_words(preprocessor.decode(ids), spans)
                num_spans += len(spans)
        self.inside_words = num_inside / max(1, num_spans)
        if not self.config.word_boundaries or self.inside_words <= MAX_INSIDE_WORDS:
            return self.config
        return self.config.model_copy(update={"word_boundaries": False})

    def _fit_baselines(self) -> None:
        documents = shuffled(self._context.documents("train"), self._context.seed, "documents", "dictionary")
        preprocessor, labels = self.corpus.preprocessor, self.corpus.entity_labels
        for baseline in self.baselines.values():
            tagged = tagged_documents(self.corpus.split("train"), documents.iloc[: baseline.max_documents])
            baseline.fit(
                (preprocessor.decode(ids), gold_spans(ids, tags, preprocessor, labels) if tags.any() else [])
                for ids, tags in zip(tagged.texts, tagged.tags, strict=True)
            )


class TagScorer(Scorer):
    """Scores a fitted `TagsProbe` and its baselines on one test set."""

    def __init__(self, probe: TagsProbe, test_set: TextSet, encoded: Encoded) -> None:
        self._probe, self._test_set = probe, test_set
        # Several components can share a tagger, which then predicts only once.
        self._taggers = {id(tagger): tagger for tagger in (*probe.taggers.values(), *probe.alone.values())}
        self._scores = dict(zip(self._taggers, empty_scores([*self._taggers.values()], encoded), strict=True))
        self._spans: list[TextSpans] = []

    def add(self, piece: Piece) -> None:
        """See `Scorer.add`."""
        for number, tagger in self._taggers.items():
            rows = slice(piece.start, piece.start + len(piece.features))
            self._scores[number][piece.text][rows] = tagger.scores(piece.features)

    def result(self) -> ProbeResult:
        """See `Scorer.result`."""
        probe, texts, gold = self._probe, self._test_set.texts, self._test_set.entities
        spans = {
            number: spans_of_texts(
                texts, scores, probe.corpus.preprocessor, probe.corpus.entity_labels, probe.config.word_boundaries
            )
            for number, scores in self._scores.items()
        }
        self._spans = spans[id(probe.taggers[""])]
        metrics = span_metrics(gold, self._spans)
        baselines = {
            name: {_F1: span_metrics(gold, [baseline.find(text) for text in texts])[_F1]}
            for name, baseline in probe.baselines.items()
        }
        without, alone = (
            {name: {_F1: span_metrics(gold, spans[id(tagger)])[_F1]} for name, tagger in taggers.items() if name}
            for taggers in (probe.taggers, probe.alone)
        )
        warnings = small_sample_warnings(_F1, len(texts), len(texts), "the test sets have no more")
        return ProbeResult(metrics, baselines, without, self._tables(), warnings, alone)

    def example(self, index: int) -> dict[str, Any]:
        """See `Scorer.example`."""
        text = self._test_set.texts[index]
        examples = {"entities": self._test_set.entities[index], "predicted_entities": self._spans[index]}
        if not any(examples.values()):
            return {}
        return {
            name: [[start, end, label, text[start:end]] for start, end, label in spans]
            for name, spans in examples.items()
        }

    def _tables(self) -> dict[str, list[dict[str, Any]]]:
        total = SpanScore()
        for gold, predicted in zip(self._test_set.entities, self._spans, strict=True):
            total.add(gold, predicted)
        rows = []
        for label in total.labels():
            counts = {"gold": total.gold.get(label, 0), "predicted": total.predicted.get(label, 0)}
            rows.append({"set": self._test_set.name, "label": label, **counts, **total.metrics(label)})
        return {"entities": rows}


_F1 = "entity_f1"


def span_metrics(gold: Sequence[TextSpans], predicted: Sequence[TextSpans]) -> dict[str, Measurement]:
    """Micro-averaged F1, precision and recall of exactly matching spans, from the spans of each document."""
    pairs = [(set(true), set(positive)) for true, positive in zip(gold, predicted, strict=True)]
    counts = [(len(true & positive), len(positive), len(true)) for true, positive in pairs]
    statistics = np.array(counts, dtype=np.float64).reshape(-1, 3)
    labels = len({label for spans in gold for _, _, label in spans})
    return {
        _F1: Measurement(statistics, f1, headline=True, labels=labels),
        "entity_precision": Measurement(statistics, lambda sums: quotient(sums[:, 0], sums[:, 1]), labels=labels),
        "entity_recall": Measurement(statistics, lambda sums: quotient(sums[:, 0], sums[:, 2]), labels=labels),
    }


def tag_rows(reader: Reader, tagged: Tagged, config: TagsProbeConfig, seed: int) -> TagRows:
    """Computes the features of texts with gold tags, and keeps the characters that `sample_rows` selects."""
    generator = derive(seed, "evaluation", "rows", "tags")
    rows = sample_rows(tagged.tags, config.rows, config.margin, generator)
    counts = np.array([int(selected.sum()) for selected in rows.selected])
    first = np.cumsum(counts) - counts
    features = torch.empty(int(counts.sum()), reader.width)
    targets = torch.zeros(len(features), dtype=torch.int64)
    weights = torch.ones(len(features))
    for text, start, piece in reader.pieces(tagged.texts):
        source = slice(start, start + len(piece))
        selected = rows.selected[text][source]
        begin = int(first[text] + rows.selected[text][:start].sum())
        target = slice(begin, begin + int(selected.sum()))
        features[target] = piece[torch.from_numpy(selected)]
        targets[target] = torch.from_numpy(tagged.tags[text][source][selected].astype(np.int64))
        represented = np.where(rows.near[text][source][selected], 1.0, rows.far_weight) * tagged.weights[text]
        weights[target] = torch.from_numpy(represented).float()
    return TagRows(features, targets, weights)


def fit_tags(
    rows: TagRows, num_labels: int, config: TagsProbeConfig, seed: int, view: View | None = None
) -> LinearProbe:
    """Fits a linear probe for the BIO tags of `num_labels` labels, on the features in `view` (default: all)."""
    width = rows.features.shape[1]
    view = view or Parts(width).view(())
    # Renaming "readout" would change the random order for every seed.
    generator = derive(seed, "evaluation", "readout", "tags")
    features = view.of(rows.features)
    probe = fit(features, rows.targets, rows.weights, 1 + 2 * num_labels, config.linear_probe, generator)
    return probe if view.is_full else probe.widened(view.columns, width)


def select_bonuses(
    reader: Reader, probes: Sequence[LinearProbe], held_out: Tagged, corpus: EncodedCorpus, config: TagsProbeConfig
) -> list[tuple[Tagger, float | None]]:
    """Selects for each probe the bonus with the highest F1 on held-out texts; 0 and None if these have no entities.

    Returns:
        The taggers and their F1.
    """
    if not any(text.any() for text in held_out.tags):
        return [(Tagger(probe), None) for probe in probes]
    selected: list[tuple[Tagger, float | None]] = []
    for probe, scores in zip(probes, tag_scores(reader, probes, held_out), strict=True):
        values = bonus_values(scores, held_out, corpus.preprocessor, corpus.entity_labels, config)
        best = max(values, key=lambda bonus: values[bonus])
        selected.append((Tagger(probe, best), values[best]))
    return selected


def empty_scores(taggers: Sequence[Tagger], texts: Encoded) -> list[list[Scores]]:
    """For each tagger, an array of zeros (L, 1 + 2K) per text of ids (L,), for its tag scores."""
    return [[np.zeros((len(ids), len(tagger.probe.bias)), dtype=np.float32) for ids in texts] for tagger in taggers]


def bonus_values(
    scores: Sequence[Scores],
    held_out: Tagged,
    preprocessor: Preprocessor,
    labels: Sequence[str],
    config: TagsProbeConfig,
) -> dict[float, float]:
    """Bonus -> its F1, for all bonuses in the configuration, from the tag scores of texts."""
    texts = [preprocessor.decode(ids) for ids in held_out.texts]
    gold = [gold_spans(*pair, preprocessor, labels) for pair in zip(held_out.texts, held_out.tags, strict=True)]

    def f1(bonus: float) -> float:
        """F1 with this bonus."""
        shifted = [add_bonus(row, bonus) for row in scores]
        spans = spans_of_texts(texts, shifted, preprocessor, labels, config.word_boundaries)
        return span_metrics(gold, spans)[_F1].value

    return {bonus: f1(bonus) for bonus in sorted(config.bonuses)}
