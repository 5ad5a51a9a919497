"""Character n-grams: saved without pickle, probabilities are those of scikit-learn, a weight helps the network."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.fit import fine_tune
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.finetuning.store import load_task, save_task
from cclm_core.runtime.errors import ArtifactError
from tests.finetuning.tasks import TOPICS, config, data, embedder, texts

pytest.importorskip("sklearn")


def test_probabilities_equal_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train = texts("classify", 60, 1)
    gold, every = [str(text.label) for text in train], [text.text for text in train]
    peer = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True), LogisticRegression(C=20)
    ).fit(every, gold)
    own = Ngrams(NgramsConfig(), sorted(TOPICS)).fit(every, gold)
    assert np.allclose(np.exp(own.log_probabilities(["my card", ""])), peer.predict_proba(["my card", ""]), atol=1e-5)


@pytest.mark.parametrize("labels", [["a"], ["a", "b"], ["a", "b", "c", "never"]])
def test_any_number_of_labels(labels: list[str], tmp_path: Path) -> None:
    gold = [label for label in labels if label != "never"] * 3
    every = [f"{label * 3} x" for label in gold]
    ngrams = Ngrams(NgramsConfig(), labels).fit(every, gold)
    assert ngrams.predict(["aaa x"]) == ["a"] and ngrams.predict([]) == []
    ngrams.save(tmp_path)
    loaded = Ngrams.load(tmp_path, labels)
    assert np.allclose(loaded.log_probabilities(every), ngrams.log_probabilities(every))
    assert np.allclose(np.exp(loaded.log_probabilities(every)).sum(1), 1)


def test_the_sum_with_the_network_is_saved(tmp_path: Path) -> None:
    model = fine_tune("toy", data("classify"), embedder(), config(ngrams={"weight": 2}, training={"steps": 3}))
    test = [text.text for text in texts("classify", 64, 3)]
    assert model.card.ngram_weight == 2 and model.ngrams is not None
    joined = model.log_probabilities(test)
    parts = model.log_probabilities(test, 0) + 2 * model.ngrams.log_probabilities(test)
    assert (joined.argmax(1) == parts.argmax(1)).all() and np.allclose(np.exp(joined).sum(1), 1)
    save_task(model, tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    assert np.allclose(loaded.log_probabilities(test), joined, atol=1e-6)


def test_damaged_ngrams_are_refused(tmp_path: Path) -> None:
    Ngrams(NgramsConfig(), ["a", "b"]).fit(["aa", "bb"], ["a", "b"]).save(tmp_path)
    (tmp_path / "ngrams.json").write_text('{"ngrams": ["x", "x"]}')
    with pytest.raises(ArtifactError, match="distinct strings"):
        Ngrams.load(tmp_path, ["a", "b"])
