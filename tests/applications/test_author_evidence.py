"""Evidence of authorship in bits: positive for the author, adds up over sentences, calibrated."""

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core.applications.author_evidence import AuthorEvidence
from cclm_core.applications.language_model import LanguageModel
from cclm_core.encoders import AttentionConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import Preprocessor

HABITS = {"ann": "aaab", "bob": "bbba", "others": "ab"}


def writings(author: str, number: int, seed: int) -> list[str]:
    """Texts by an author who prefers a letter."""
    generator = derive(seed, author)
    return ["".join(generator.choice(list(HABITS[author] + " "), size=150)) + "." for _ in range(number)]


@pytest.fixture(scope="module")
def evidence() -> AuthorEvidence:
    preprocessor = Preprocessor(alphabet="ab .")
    encoder = AttentionConfig(num_layers=1, num_heads=2, width=16, causal=True)
    embedding = EmbeddingConfig(width=16, ngram_sizes=(), ngram_buckets=16)
    with seeded_initialization(1):
        base = Embedder(preprocessor, EmbedderConfig(embedding=embedding, encoder=encoder)).freeze()
        head = nn.Linear(16, preprocessor.num_ids)
    texts = writings("others", 30, 1)
    model = LanguageModel(base, head, preprocessor, 256)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    ids = torch.tensor([model.ids(text) for text in texts])
    for _ in range(60):  # the population has no habit
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(base(ids[:, :-1])).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
    result = AuthorEvidence(model)
    for author in ("ann", "bob"):
        result.add(author, writings(author, 5, 2))
    return result


def test_it_speaks_for_the_author(evidence: AuthorEvidence) -> None:
    bits = evidence.bits([*writings("ann", 10, 3), *writings("bob", 10, 3)])
    assert (bits[:10, 0] > 0).all() and (bits[:10, 1] < 0).all()
    assert (bits[10:, 0] < 0).all() and (bits[10:, 1] > 0).all()
    assert not evidence.bits([""]).any()


def test_the_population_can_be_fitted_first(evidence: AuthorEvidence) -> None:
    """Of two authors who both prefer the letter b, evidence against a population that does so, too, is smaller."""
    adapted = AuthorEvidence(evidence.model, population=writings("bob", 20, 6))
    adapted.add("bob", writings("bob", 5, 2))
    texts = writings("bob", 5, 7)
    assert np.abs(adapted.bits(texts)).max() < 0.2 * evidence.bits(texts, ["bob"]).min()
    assert sum(row["bits"] for row in adapted.by_sentence(texts[0], "bob")) == pytest.approx(adapted.bits(texts)[0, 0])
    with pytest.raises(DataError, match="the population needs known texts with characters"):
        AuthorEvidence(evidence.model, population=[""])


def test_sentences_add_up_to_the_text(evidence: AuthorEvidence) -> None:
    text = "".join(writings("ann", 2, 4)) + "\n" + writings("bob", 1, 4)[0]
    rows = evidence.by_sentence(text, "ann")
    assert "".join(row["text"] for row in rows) == text
    assert sum(row["bits"] for row in rows) == pytest.approx(evidence.bits([text], ["ann"])[0, 0], abs=1e-3)
    assert rows[0]["bits"] > 0 > rows[-1]["bits"]


def test_calibrated_evidence_is_a_probability(evidence: AuthorEvidence) -> None:
    bits = evidence.bits([*writings("ann", 20, 5), *writings("bob", 20, 5)])[:, 0]
    truths = np.arange(40) < 20
    probabilities = evidence.calibrate(bits.tolist(), truths.tolist()).probability(bits)
    assert probabilities[truths].min() > 0.5 > probabilities[~truths].max()
    with pytest.raises(DataError, match="a calibration needs pairs of both kinds"):
        evidence.calibrate([1.0, 2.0], [True, True])


def test_wrong_arguments_are_explained(evidence: AuthorEvidence) -> None:
    with pytest.raises(DataError, match="the author 'carl' is not known"):
        evidence.bits(["a"], ["carl"])
    with pytest.raises(DataError, match="needs known texts with characters"):
        evidence.add("carl", ["", ""])
    with pytest.raises(ConfigError, match="penalty must be above 0"):
        AuthorEvidence(evidence.model, penalty=0)
