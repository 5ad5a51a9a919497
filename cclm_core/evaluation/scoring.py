"""Scores of fitted readouts on test sets, one pass of the model over each."""

from collections.abc import Sequence
from typing import Any

import torch

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.classes import ClassReadout, ClassScore, Pool
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.dictionary import NameDictionary
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import Scale
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import CLEAN, TextSet
from cclm_core.evaluation.spans import SpanScore
from cclm_core.evaluation.tags import Scores, TagReadout, TextSpans, no_scores, spans_of_texts

_SPAN_FIGURES = ("entity_f1", "entity_precision", "entity_recall", "entity_dictionary_f1")
_CLASS_FIGURES = ("genre_accuracy", "genre_macro_f1")


class Scorer:
    """Scores what the readouts say of test sets.

    Args:
        reader: reads texts through the composition.
        corpus: has the vocabulary and the entity labels.
        config: how spans are found and which documents are classified.
        tags: the readouts of tags by the component that each leaves out, "" for none; empty if they were skipped.
        classes: the readout of labels; None if it was skipped.
        names: the dictionary beside the tag readout.
        judged: ids of the documents whose label counts.
    """

    def __init__(
        self,
        reader: Reader,
        corpus: EncodedCorpus,
        config: EvaluationConfig,
        tags: dict[str, TagReadout],
        classes: tuple[ClassReadout, Scale] | None,
        names: NameDictionary,
        judged: set[str],
    ) -> None:
        self.reader, self.corpus, self.config = reader, corpus, config
        self.tags, self.classes, self.names, self.judged = tags, classes, names, judged

    def score(self, test_set: TextSet, show: bool, result: Evaluation) -> None:
        """Adds the figures of `test_set` to `result`, and examples if `show` is true."""
        scores, predicted = self._read(test_set)
        row: dict[str, float] = {} if test_set.rate is None else {"rate": test_set.rate}
        found = self._spans(test_set, scores, row, result) if self.tags else None
        for left_out in self.tags:
            if left_out:
                f1 = self._score(test_set, self._found(test_set, scores[left_out])).figures()["f1"]
                result.without.setdefault(left_out, {})[f"entity_f1_{test_set.name}"] = f1
        if self.classes and self.judged:
            self._labels(test_set, predicted, row, result)
        if test_set.rate is not None:
            result.curve.append(row)
        if show:
            self._show(test_set, found, predicted, result)

    def _read(self, test_set: TextSet) -> tuple[dict[str, list[Scores]], list[str]]:
        """By what is left out the scores (L, 1 + 2K) of the tags of each document's ids; and each document's label."""
        encoded = [self.corpus.preprocessor.encode(text) for text in test_set.texts]
        scale = self.classes[1] if self.classes else Scale(torch.zeros(0), torch.zeros(0))
        pooling = Pool(scale, len(encoded), self.config.classes.max_characters)
        scores = dict(zip(self.tags, no_scores([*self.tags.values()], encoded), strict=True))
        for text, start, features in self.reader.pieces(encoded) if self.tags or self.classes else ():
            for left_out, tags in self.tags.items():
                scores[left_out][text][start : start + len(features)] = tags.scores(features)
            if self.classes:
                pooling.add(text, start, features)
        return scores, self.classes[0].predict(pooling.pooled()) if self.classes else []

    def _spans(
        self, test_set: TextSet, scores: dict[str, list[Scores]], row: dict[str, float], result: Evaluation
    ) -> list[TextSpans]:
        found = self._found(test_set, scores[""])
        total = self._score(test_set, found)
        lookup = self._score(test_set, [self.names.find(text) for text in test_set.texts])
        row.update({f"entity_{name}": value for name, value in total.figures().items()})
        row["entity_dictionary_f1"] = lookup.figures()["f1"]
        result.metrics.update({f"{name}_{test_set.name}": row[name] for name in _SPAN_FIGURES})
        for label in total.labels():
            counts = {"gold": total.gold.get(label, 0), "predicted": total.predicted.get(label, 0)}
            result.entities.append({"set": test_set.name, "label": label, **counts, **total.figures(label)})
        return found

    def _found(self, test_set: TextSet, scores: list[Scores]) -> list[TextSpans]:
        words = self.config.tags.word_boundaries
        return spans_of_texts(test_set.texts, scores, self.corpus.preprocessor, self.corpus.entity_labels, words)

    def _score(self, test_set: TextSet, found: Sequence[TextSpans]) -> SpanScore:
        score = SpanScore()
        for gold, predicted in zip(test_set.entities, found, strict=True):
            score.add(gold, predicted)
        return score

    def _labels(self, test_set: TextSet, predicted: list[str], row: dict[str, float], result: Evaluation) -> None:
        places = [place for place, number in enumerate(test_set.ids) if number in self.judged]
        score = ClassScore.of([str(test_set.labels[place]) for place in places], [predicted[place] for place in places])
        row.update(genre_accuracy=score.accuracy, genre_macro_f1=score.macro_f1)
        if test_set.name != CLEAN:  # the clean figures come from more documents: see the evaluator
            result.metrics.update({f"{name}_{test_set.name}": row[name] for name in _CLASS_FIGURES})

    def _show(self, test_set: TextSet, found: list[TextSpans] | None, predicted: list[str], result: Evaluation) -> None:
        """Adds the first documents with entities, or else the first ones."""
        order = sorted(range(len(test_set.ids)), key=lambda place: (not test_set.entities[place], place))
        for place in order[: self.config.num_examples]:
            text = test_set.texts[place]
            shown: dict[str, Any] = {"set": test_set.name, "id": test_set.ids[place], "text": text}
            if found is not None:
                for name, spans in (("entities", test_set.entities[place]), ("predicted_entities", found[place])):
                    shown[name] = [[start, end, label, text[start:end]] for start, end, label in spans]
            if predicted and test_set.ids[place] in self.judged:
                shown.update(label=test_set.labels[place], predicted_label=predicted[place])
            result.examples.append(shown)
