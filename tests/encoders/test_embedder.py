"""Building an embedder, and its digest."""

import pytest
import torch

from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor
from tests.encoders.shapes import SMALL, embedder, text

CONFIG = EmbedderConfig(encoder=SMALL)


def test_it_is_built_from_a_vocabulary_or_from_sizes_checked_against_it() -> None:
    prep = Preprocessor(alphabet="abc")
    models = []
    for build in (
        lambda: Embedder(prep, CONFIG),
        lambda: Embedder(preprocessor=prep, config=CONFIG),
        lambda: Embedder(64, prep.num_ids, preprocessor=prep, config=CONFIG),
        lambda: Embedder(None, prep.num_ids, preprocessor=prep, config=CONFIG),
    ):
        with seeded_initialization(1):
            models.append(build())
    assert len({model.digest for model in models}) == 1
    assert models[2](text(90) % prep.num_ids).shape == (1, 90, SMALL.width)  # any length
    with pytest.raises(
        ConfigError, match=rf"n_chars must be {prep.num_ids}, the number of ids in the vocabulary, got 7"
    ):
        Embedder(64, 7, preprocessor=prep)
    with pytest.raises(ConfigError, match=r"needs a vocabulary, got only \(64, 263\)\. Write .*preproces"):
        Embedder(64, 263)
    with pytest.raises(ConfigError, match="needs a vocabulary"):
        Embedder()  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="takes a Preprocessor, or `max_example_len, n_chars`, got"):
        Embedder("abc", preprocessor=prep)  # type: ignore[call-overload]


def test_objects_with_equal_weights_have_equal_digests() -> None:
    base = embedder(SMALL)
    before = base.digest
    assert before == embedder(SMALL).digest != embedder(SMALL, seed=2).digest
    optimizer = torch.optim.SGD(base.parameters(), lr=0.1)
    base(text(9)).sum().backward()
    optimizer.step()
    after = base.digest
    other = embedder(SMALL)
    other.load_state_dict(base.state_dict())
    assert before != after == other.digest == other.to(torch.device("cpu")).digest
    with torch.inference_mode():
        assert embedder(SMALL).digest == before
