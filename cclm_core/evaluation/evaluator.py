"""The evaluation of one composition: fit the readouts, read the test sets, score."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.evaluation.characters import Masked, mask_windows, masked_bits, masked_features, mean_bits
from cclm_core.evaluation.classes import (
    ClassReadout,
    ClassScore,
    NgramClasses,
    fit_classes,
    majority,
    pool,
    scale_of,
)
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.counts import CountModel, train_runs
from cclm_core.evaluation.dictionary import NameDictionary
from cclm_core.evaluation.reading import Composed, Reader
from cclm_core.evaluation.readout import Scale
from cclm_core.evaluation.result import BITS, GENRE, Evaluation
from cclm_core.evaluation.scoring import Scorer
from cclm_core.evaluation.selection import (
    TextSet,
    choose_tagged,
    document_ids,
    judged,
    of_variants,
    shuffled,
    tagged_documents,
    texts_of,
    up_to,
)
from cclm_core.evaluation.tags import TagReadout, choose_bonuses, fit_tags, gold_spans, tag_rows
from cclm_core.evaluation.views import View, leaving_one_out, whole
from cclm_core.runtime.random import derive_seed
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
        corpus: readouts are fitted on its train split alone; its validation split chooses a penalty.
        test_sets: the clean test documents first, then each noise rate.
        seed: decides which documents and places are read, the same for every composition.
        report: gets the phases, and at the end the characters per second and the seconds in all.
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
        self.reader = Reader(composed, config.batch_characters, config.max_window, config.precision)
        self.judged = judged(test_sets[0], config.classes.min_characters)
        self.result = Evaluation()
        self.views = [whole(composed.width), *self._leaving_one_out()]
        self._report, self._phase, self._num_phases = report, 0, 5 + len(test_sets)

    def run(self) -> Evaluation:
        began = time.perf_counter()
        numbers = [parameter.numel() for parameter in self.composed.parameters()]
        self.result.metrics.update(parameters=sum(numbers), width=self.composed.width)
        with self._timed("masked_characters"):
            self._characters()
        with self._timed("fit_tags"):
            tags = self._fit_tags()
        with self._timed("fit_classes"):
            classes = self._fit_classes()
        with self._timed("dictionary"):
            names = self._dictionary() if tags else NameDictionary()
        scorer = Scorer(self.reader, self.corpus, self.config, tags, classes, names, self.judged)
        for number, test_set in enumerate(self.test_sets):
            with self._timed(test_set.name):
                scorer.score(test_set, number in (0, len(self.test_sets) - 1), self.result)
        with self._timed("ngrams"):
            if classes and self.config.classes.ngrams:
                self._ngrams()
        speed = self.reader.characters / self.reader.seconds if self.reader.seconds else 0.0
        times = {"characters_per_second": speed, "evaluation_seconds": time.perf_counter() - began}
        self._report(self._num_phases, times, self._num_phases)
        return self.result

    def _leaving_one_out(self) -> list[View]:
        if not self.config.contributions or len(self.composed.columns) == 1:
            return []
        if not self.composed.columns:
            self.result.skipped["contributions"] = "the fusion mixes the features of its parts: none can be left out"
        return leaving_one_out(self.composed.width, self.composed.columns)

    def _tell(self, left_out: str, name: str, figure: float) -> None:
        """Adds a figure of the composition, or of what is left of it without a component."""
        (self.result.without.setdefault(left_out, {}) if left_out else self.result.metrics)[name] = figure

    def _documents(self, split: str) -> pd.DataFrame:
        return of_variants(self.corpus.split(split).documents, self.config.variants)

    def _characters(self) -> None:
        for split in ("train", "test"):
            if not self._documents(split)["length"].sum():
                self.result.skipped["masked_characters"] = f"the {split} split has no text of these variants"
                return
        config, num_ids = self.config.characters, self.corpus.preprocessor.num_ids
        runs = train_runs(self._windows("train"))
        train, test = self._masked("train", config.train_windows), self._masked("test", config.test_windows)
        counts = CountModel(runs, num_ids, self.config.baseline_symbols).fit(train)
        features = [masked_features(self.reader, masked) for masked in (train, test)]
        for view in self.views:
            seen = view.of(features[0]), view.of(features[1])
            bits = masked_bits(train, test, seen, num_ids, config, self.seed)
            self._tell(view.left_out, BITS, mean_bits(bits))
        self.result.metrics.update(
            unigram_bits=mean_bits(counts.unigram_bits(test)),
            trigram_bits=mean_bits(counts.bits(test)),
        )

    def _windows(self, split: str) -> Windows:
        return Windows(self.corpus.split(split), self.config.characters.window, self.config.variants)

    def _masked(self, split: str, num_windows: int) -> Masked:
        windows = self._windows(split).fixed(num_windows, derive_seed(self.seed, "evaluation", "windows", split))
        return mask_windows(windows.ids, self.config.characters, self.seed, split)

    def _fit_tags(self) -> dict[str, TagReadout]:
        """The readouts of tags, by the component that each leaves out; none if there is nothing to fit or to score."""
        if not any(spans for test_set in self.test_sets for spans in test_set.entities):
            self.result.skipped["entities"] = "the test documents have no entities"
            return {}
        config, labels, preprocessor = self.config.tags, self.corpus.entity_labels, self.corpus.preprocessor
        documents = shuffled(self._documents("train"), self.seed, "documents", "tags")
        tagged = choose_tagged(self.corpus.split("train"), documents, config.train_characters, config.entity_share)
        if not any(text.any() for text in tagged.tags):
            self.result.skipped["entities"] = "the training documents have no entities"
            return {}
        rows = tag_rows(self.reader, tagged, config, self.seed)
        readouts = [fit_tags(rows, len(labels), config, self.seed, view) for view in self.views]
        documents = shuffled(self._documents("validation"), self.seed, "documents", "tags", "validation")
        held_out = tagged_documents(self.corpus.split("validation"), up_to(documents, config.validation_characters))
        tags = choose_bonuses(self.reader, readouts, held_out, preprocessor, labels, config)
        self.result.chosen["tag_bonus"] = tags[0].bonus
        return {view.left_out: one for view, one in zip(self.views, tags, strict=True)}

    def _labelled(self, split: str, most: int) -> pd.DataFrame:
        documents = self._documents(split)
        long = documents["length"] >= self.config.classes.min_characters
        chosen = documents[documents["label"].notna() & long]
        return shuffled(chosen, self.seed, "documents", "classes", split).iloc[:most]

    def _fit_classes(self) -> tuple[ClassReadout, Scale] | None:
        config = self.config.classes
        train = self._labelled("train", config.train_documents)
        if train["label"].nunique() < 2:
            self.result.skipped["classes"] = f"fewer than two labels among {len(train)} long training documents"
            return None
        test = self._labelled("test", config.test_documents)
        if test.empty:
            self.result.skipped["classes"] = f"no test document has a label and {config.min_characters} characters"
            return None
        held_out = self._labelled("validation", config.validation_documents)
        sample = document_ids(self.corpus.split("train"), train.iloc[: config.scale_documents])
        scale = scale_of(self.reader, sample, config.max_characters)
        pooled = {
            split: pool(self.reader, scale, document_ids(self.corpus.split(split), documents), config.max_characters)
            for split, documents in (("train", train), ("validation", held_out), ("test", test))
        }
        labels, gold = train["label"].tolist(), test["label"].tolist()
        fitted = []
        for view in self.views:
            seen = {split: view.of_sides(features) for split, features in pooled.items()}
            classes = fit_classes(seen["train"], labels, seen["validation"], held_out["label"].tolist(), config)
            score = ClassScore.of(gold, classes.predict(seen["test"]))
            self._tell(view.left_out, GENRE, score.accuracy)
            fitted.append((classes, score))
        classes, self.result.genres = fitted[0]
        self.result.chosen["class_penalty"] = classes.penalty
        self.result.metrics.update(genre_macro_f1=self.result.genres.macro_f1, genre_majority=majority(labels, gold))
        return classes, scale

    def _dictionary(self) -> NameDictionary:
        names, preprocessor = NameDictionary(), self.corpus.preprocessor
        documents = shuffled(self._documents("train"), self.seed, "documents", "dictionary")
        tagged = tagged_documents(self.corpus.split("train"), documents.iloc[: self.config.dictionary_documents])
        for ids, tags in zip(tagged.texts, tagged.tags, strict=True):
            spans = gold_spans(ids, tags, preprocessor, self.corpus.entity_labels) if tags.any() else []
            names.learn(preprocessor.decode(ids), spans)
        return names

    def _ngrams(self) -> None:
        config = self.config.classes
        train, test = self._labelled("train", config.train_documents), self._labelled("test", config.test_documents)
        texts = {
            split: texts_of(self.corpus.split(split), documents, self.corpus.preprocessor, config.max_characters)
            for split, documents in (("train", train), ("test", test))
        }
        model = NgramClasses(texts["train"], train["label"].tolist())
        score = ClassScore.of(test["label"].tolist(), model.predict(texts["test"]))
        self.result.metrics.update(genre_ngram_accuracy=score.accuracy, genre_ngram_macro_f1=score.macro_f1)

    @contextmanager
    def _timed(self, _name: str) -> Iterator[None]:
        """Tells that a phase is over; the names of phases are for the reader of this file."""
        yield
        self._phase += 1
        self._report(self._phase, {}, self._num_phases)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
