"""Baselines for labels: a bag of character n-grams, and the majority label."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.baselines.base import LabelBaseline
from cclm_core.evaluation.linear_probe import one_blas_thread
from cclm_core.runtime.config import Config


class NgramsConfig(Config):
    """Logistic regression over character 1- to 5-grams of words: predicts the label from spelling alone."""

    baseline: Literal["ngrams"] = "ngrams"
    max_features: int = Field(default=200_000, ge=1, description="number of n-grams, the most frequent ones")

    def build(self, _context: EncodedCorpus) -> "NgramLabels":
        """The unfitted baseline."""
        return NgramLabels(self.max_features)


class NgramLabels(LabelBaseline):
    """Logistic regression over the `max_features` most frequent character 1- to 5-grams inside words.

    Source: scikit-learn's TfidfVectorizer (sublinear) and LogisticRegression.
    """

    def __init__(self, max_features: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(1, 5), max_features=max_features, sublinear_tf=True
        )
        self._model = LogisticRegression(C=10.0, max_iter=200)

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """See `LabelBaseline.fit`."""
        with one_blas_thread():
            self._model.fit(self._vectorizer.fit_transform(texts), list(labels))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """See `LabelBaseline.predict`."""
        with one_blas_thread():
            return [str(label) for label in self._model.predict(self._vectorizer.transform(texts))]


class MajorityConfig(Config):
    """The most frequent label of the training texts."""

    baseline: Literal["majority"] = "majority"

    def build(self, _context: EncodedCorpus) -> "MajorityLabel":
        """The unfitted baseline."""
        return MajorityLabel()


class MajorityLabel(LabelBaseline):
    """Predicts the most frequent training label; in a tie, the first in alphabetical order."""

    def __init__(self) -> None:
        self._label = ""

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:  # noqa: ARG002 - it reads no texts
        """See `LabelBaseline.fit`."""
        counts = Counter(labels)
        self._label = min(counts, key=lambda name: (-counts[name], name))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """See `LabelBaseline.predict`."""
        return [self._label] * len(texts)
