import numpy as np
import pytest
import torch

from cclm_core.evaluation.classes import ClassScore, NgramClasses, Pool, fit_classes, majority, pool, scale_of
from cclm_core.evaluation.config import ClassesProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import Scale
from cclm_core.text.vocabulary import Preprocessor
from tests.evaluation.stand_ins import Stand


def test_pooling_piece_by_piece_is_pooling_the_whole():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    scale = Scale.of(features)
    pooling = Pool(scale, 2, longest=20)
    for start, stop in ((15, 25), (0, 7), (25, 30), (7, 15)):
        pooling.add(0, start, features[start:stop])
    z = (features[:20] - features.mean(0)) / features.std(0, correction=0)
    whole = torch.cat([(z - 1).clamp_min(0).mean(0), (-1 - z).clamp_min(0).mean(0)])
    torch.testing.assert_close(pooling.pooled()[0], whole)
    assert torch.equal(pooling.pooled()[1], torch.zeros(10))


def test_what_is_pooled_depends_on_no_batch():
    preprocessor = Preprocessor(alphabet="abc ")
    texts = [preprocessor.encode(text) for text in ("abc", "a cab " * 20, "", "b")]
    readers = [Reader(Stand(preprocessor), size, 50) for size in (1, 9999)]
    scale = scale_of(readers[0], texts, 100)
    small, large = (pool(reader, scale, texts, 100) for reader in readers)
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-5)


def data(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 40, generator=generator)
    return features, ["a" if value > 0 else "b" for value in features[:, 0].tolist()]


def test_what_can_be_learnt_is_learnt_and_shuffled_labels_are_not():
    train, labels = data(300, 0)
    test, gold = data(200, 1)
    readout = fit_classes(train, labels, *data(100, 2), ClassesProbe())
    assert ClassScore.of(gold, readout.predict(test)).accuracy > 0.85
    shuffled = [labels[place] for place in np.random.default_rng(0).permutation(300)]
    readout = fit_classes(train, shuffled, *data(100, 2), ClassesProbe())
    assert ClassScore.of(gold, readout.predict(test)).accuracy < 0.65


def test_held_out_documents_choose_the_penalty():
    train, labels = data(60, 0)
    noisy = [label if number % 3 else "ab".replace(label, "") for number, label in enumerate(labels)]
    config = ClassesProbe(penalties=(1e-6, 0.3))
    assert fit_classes(train, noisy, *data(100, 2), config).penalty == 0.3
    assert fit_classes(train, noisy, torch.zeros(0, 40), [], ClassesProbe(penalties=(1.0, 3.0, 2.0))).penalty == 2.0


def test_scores_of_a_small_confusion():
    score = ClassScore.of(["x", "x", "x", "y"], ["x", "x", "z", "y"])
    assert score.labels == ["x", "y", "z"]
    assert score.confusion.tolist() == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert score.accuracy == 0.75
    assert score.macro_f1 == pytest.approx((0.8 + 1.0) / 2)


def test_majority_is_that_of_training():
    assert majority(["a", "b", "b"], ["a", "a", "a", "b"]) == 0.25
    assert majority(["b", "a"], ["a", "b"]) == 0.5


def test_ngrams_tell_spellings_apart():
    model = NgramClasses(["loue vpon", "haue vs", "love upon", "have us"] * 3, ["old", "old", "new", "new"] * 3)
    assert model.predict(["giue vp", "give up"]) == ["old", "new"]
