"""The evaluation of one composition: fit the readouts, read the test sets, score."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from cclm_core.evaluation.characters import mask_windows, masked_bits, mean_bits
from cclm_core.evaluation.classes import ClassReadout, ClassScore, NgramClasses, Pool, fit_classes, majority, pool
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.counts import CountModel, train_runs
from cclm_core.evaluation.dictionary import NameDictionary
from cclm_core.evaluation.reading import Composed, Reader
from cclm_core.evaluation.readout import Readout
from cclm_core.evaluation.selection import (
    CLEAN,
    TextSet,
    document_ids,
    document_tags,
    of_variants,
    shuffled,
    texts_of,
    up_to,
)
from cclm_core.evaluation.spans import SpanScore, tags_to_spans
from cclm_core.evaluation.tags import fit_tags, spans_of_text
from cclm_core.random import derive_seed
from cclm_core.reporting import Report
from cclm_core.text.encoded import EncodedCorpus
from cclm_core.text.windows import Windows

TaggedSpans = list[tuple[int, int, str]]


@dataclass
class Evaluation:
    """What was measured.

    Attributes:
        metrics: the figures, by name.
        skipped: what could not be measured, and why.
        curve: figures by noise rate, one row for each test set.
        entities: figures by noise rate and entity label.
        genres: how the labels of clean documents were predicted; None if that was skipped.
        penalty: the L2 strength that the held-out documents chose for the class readout.
        examples: test documents with what was wanted and what was predicted.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    entities: list[dict[str, Any]] = field(default_factory=list)
    genres: ClassScore | None = None
    penalty: float | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)


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
        corpus: readouts are fitted on its train split alone; its validation split chooses a penalty.
        test_sets: the clean test documents first, then each noise rate.
        seed: decides which documents and places are read, the same for every composition.
        report: gets the time of each phase and the characters per second.
    """
    with _threads(config.threads):
        return _Evaluator(composed, corpus, test_sets, config, seed, report).run()


class _Evaluator:
    def __init__(
        self,
        composed: Composed,
        corpus: EncodedCorpus,
        test_sets: Sequence[TextSet],
        config: EvaluationConfig,
        seed: int,
        report: Report,
    ) -> None:
        self.composed, self.corpus, self.test_sets, self.config, self.seed = composed, corpus, test_sets, config, seed
        self.reader = Reader(composed, config.batch_characters, config.max_window)
        self.result = Evaluation()
        self._report, self._phase, self._num_phases = report, 0, 5 + len(test_sets)

    def run(self) -> Evaluation:
        numbers = [parameter.numel() for parameter in self.composed.parameters()]
        self.result.metrics.update(parameters=sum(numbers), width=self.composed.width)
        with self._timed("masked_characters"):
            self._characters()
        with self._timed("fit_tags"):
            tags = self._fit_tags()
        with self._timed("fit_classes"):
            classes = self._fit_classes()
        with self._timed("dictionary"):
            names = self._dictionary() if tags else None
        for test_set in self.test_sets:
            with self._timed(test_set.name):
                self._test(test_set, tags, classes, names)
        with self._timed("ngrams"):
            if classes and self.config.classes.ngrams:
                self._ngrams()
        speed = self.reader.characters / self.reader.seconds if self.reader.seconds else 0.0
        self._report(self._num_phases, {"characters_per_second": speed}, self._num_phases)
        return self.result

    def _documents(self, split: str) -> pd.DataFrame:
        return of_variants(self.corpus.split(split).documents, self.config.variants)

    def _characters(self) -> None:
        config = self.config.characters
        for split in ("train", "test"):
            if not self._documents(split)["length"].sum():
                self.result.skipped["masked_characters"] = f"the {split} split has no text of these variants"
                return
        windows = {
            split: Windows(self.corpus.split(split), config.window, self.config.variants) for split in ("train", "test")
        }
        sizes = {"train": config.train_windows, "test": config.test_windows}
        masked = {
            split: mask_windows(
                windows[split].fixed(sizes[split], derive_seed(self.seed, "evaluation", "windows", split)).ids,
                config,
                self.seed,
                split,
            )
            for split in windows
        }
        num_ids = self.corpus.preprocessor.num_ids
        counts = CountModel(train_runs(windows["train"]), num_ids, self.config.baseline_symbols).fit(masked["train"])
        test = masked["test"]
        bits = masked_bits(self.reader, masked["train"], test, num_ids, config, self.seed)
        self.result.metrics.update(
            bits_per_masked_character=mean_bits(bits),
            unigram_bits=mean_bits(counts.unigram_bits(test)),
            trigram_bits=mean_bits(counts.bits(test)),
        )

    def _fit_tags(self) -> Readout | None:
        if not any(spans for test_set in self.test_sets for spans in test_set.entities):
            self.result.skipped["entities"] = "the test documents have no entities"
            return None
        split = self.corpus.split("train")
        documents = up_to(
            shuffled(self._documents("train"), self.seed, "documents", "tags"), self.config.tags.train_characters
        )
        tags = document_tags(split, documents)
        if not any(text.any() for text in tags):
            self.result.skipped["entities"] = "the training documents have no entities"
            return None
        texts, num_labels = document_ids(split, documents), len(self.corpus.entity_labels)
        return fit_tags(self.reader, texts, tags, num_labels, self.config.tags, self.seed)

    def _labelled(self, split: str, most: int) -> pd.DataFrame:
        documents = self._documents(split)
        long = documents["length"] >= self.config.classes.min_characters
        chosen = documents[documents["label"].notna() & long]
        return shuffled(chosen, self.seed, "documents", "classes", split).iloc[:most]

    def _fit_classes(self) -> ClassReadout | None:
        config = self.config.classes
        train = self._labelled("train", config.train_documents)
        if train["label"].nunique() < 2:
            self.result.skipped["classes"] = f"fewer than two labels among {len(train)} long enough training documents"
            return None
        if not self._judged():
            self.result.skipped["classes"] = "no test document is labelled and long enough"
            return None
        held_out = self._labelled("validation", config.validation_documents)
        pooled, pooled_held_out = (
            pool(self.reader, document_ids(self.corpus.split(split), documents), config.max_characters)
            for split, documents in (("train", train), ("validation", held_out))
        )
        classes = fit_classes(pooled, train["label"].tolist(), pooled_held_out, held_out["label"].tolist(), config)
        self.result.penalty = classes.penalty
        return classes

    def _judged(self) -> set[str]:
        """The ids of the test documents that are labelled and, clean, long enough."""
        clean = self.test_sets[0]
        rows = zip(clean.ids, clean.texts, clean.labels, strict=True)
        least = self.config.classes.min_characters
        return {number for number, text, label in rows if label is not None and len(text) >= least}

    def _test(
        self, test_set: TextSet, tags: Readout | None, classes: ClassReadout | None, names: NameDictionary | None
    ) -> None:
        encoded = [self.corpus.preprocessor.encode(text) for text in test_set.texts]
        pooling = Pool(len(encoded), self.reader.width, self.config.classes.max_characters)
        num_tags = len(tags.bias) if tags else 0
        scores = [np.zeros((len(ids), num_tags), dtype=np.float32) for ids in encoded]
        for text, start, features in self.reader.pieces(encoded) if tags or classes else ():
            if tags:
                scores[text][start : start + len(features)] = tags.log_probabilities(features).numpy()
            if classes:
                pooling.add(text, start, features)
        row = {"rate": test_set.rate}
        found = self._spans(test_set, scores, names, row) if tags else None
        labels = self._labels(test_set, classes.predict(pooling.pooled()), row) if classes else None
        self.result.curve.append(row)
        if test_set in (self.test_sets[0], self.test_sets[-1]):
            self._show(test_set, found, labels)

    def _spans(
        self,
        test_set: TextSet,
        scores: list[npt.NDArray[np.float32]],
        names: NameDictionary | None,
        row: dict[str, float],
    ) -> list[TaggedSpans]:
        preprocessor, labels = self.corpus.preprocessor, self.corpus.entity_labels
        words = self.config.tags.word_boundaries
        found = [
            spans_of_text(text, score, preprocessor, labels, words)
            for text, score in zip(test_set.texts, scores, strict=True)
        ]
        score, lookup = SpanScore(), SpanScore()
        for text, gold, predicted in zip(test_set.texts, test_set.entities, found, strict=True):
            score.add(gold, predicted)
            lookup.add(gold, names.find(text) if names else ())
        row.update({f"entity_{name}": value for name, value in score.figures().items()})
        row["entity_dictionary_f1"] = lookup.figures()["f1"]
        for name in ("entity_f1", "entity_precision", "entity_recall", "entity_dictionary_f1"):
            self.result.metrics[f"{name}_{test_set.name}"] = row[name]
        for label in score.labels():
            counts = {"gold": score.gold.get(label, 0), "predicted": score.predicted.get(label, 0)}
            self.result.entities.append({"rate": test_set.rate, "label": label, **counts, **score.figures(label)})
        return found

    def _labels(self, test_set: TextSet, predicted: list[str], row: dict[str, float]) -> list[str]:
        judged = self._judged()
        pairs = [
            (str(gold), label)
            for number, gold, label in zip(test_set.ids, test_set.labels, predicted, strict=True)
            if number in judged
        ]
        score = ClassScore.of([gold for gold, _ in pairs], [label for _, label in pairs])
        row.update(genre_accuracy=score.accuracy, genre_macro_f1=score.macro_f1)
        suffix = "" if test_set.name == CLEAN else f"_{test_set.name}"
        self.result.metrics.update(
            {f"genre_accuracy{suffix}": score.accuracy, f"genre_macro_f1{suffix}": score.macro_f1}
        )
        if test_set.name == CLEAN:
            self.result.genres = score
            train = self._labelled("train", self.config.classes.train_documents)["label"].tolist()
            self.result.metrics["genre_majority"] = majority(train, [gold for gold, _ in pairs])
        return predicted

    def _show(self, test_set: TextSet, found: list[TaggedSpans] | None, labels: list[str] | None) -> None:
        """Adds examples: the first documents with entities, or else the first ones."""
        order = sorted(range(len(test_set.ids)), key=lambda number: (not test_set.entities[number], number))
        for number in order[: self.config.num_examples]:
            text = test_set.texts[number]
            shown: dict[str, Any] = {"set": test_set.name, "id": test_set.ids[number], "text": text}
            if found is not None:
                for name, spans in (("entities", test_set.entities[number]), ("predicted_entities", found[number])):
                    shown[name] = [[start, end, label, text[start:end]] for start, end, label in spans]
            if labels is not None:
                shown.update(label=test_set.labels[number], predicted_label=labels[number])
            self.result.examples.append(shown)

    def _dictionary(self) -> NameDictionary:
        names, split, preprocessor = NameDictionary(), self.corpus.split("train"), self.corpus.preprocessor
        documents = shuffled(self._documents("train"), self.seed, "documents", "dictionary")
        documents = documents.iloc[: self.config.dictionary_documents]
        texts, tags = document_ids(split, documents), document_tags(split, documents)
        labels = self.corpus.entity_labels
        for ids, marks in zip(texts, tags, strict=True):
            text = preprocessor.decode(ids)
            offsets = preprocessor.offsets(text)
            spans = tags_to_spans(marks) if marks.any() else []
            names.learn(text, [(int(offsets[a]), int(offsets[b - 1]) + 1, labels[label]) for a, b, label in spans])
        return names

    def _ngrams(self) -> None:
        config, judged, clean = self.config.classes, self._judged(), self.test_sets[0]
        train = self._labelled("train", config.train_documents)
        texts = texts_of(self.corpus.split("train"), train, self.corpus.preprocessor, config.max_characters)
        places = [place for place, number in enumerate(clean.ids) if number in judged]
        model = NgramClasses(texts, train["label"].tolist())
        predicted = model.predict([clean.texts[place][: config.max_characters] for place in places])
        score = ClassScore.of([str(clean.labels[place]) for place in places], predicted)
        self.result.metrics.update(genre_ngram_accuracy=score.accuracy, genre_ngram_macro_f1=score.macro_f1)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._phase += 1
        self._report(self._phase, {f"seconds_{name}": time.perf_counter() - began}, self._num_phases)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
