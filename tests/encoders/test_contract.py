"""The contract of encoders: any length, invariance to padding and batch, sensitivity to every character, learning.

Features are float32 and about 1. Sums in another order differ in the last bits, so the tolerance is 1e-5.
"""

import pytest
import torch
from torch import Tensor, nn

from cclm_core.encoders import Embedder, EmbeddingConfig, EncoderConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from tests.encoders.shapes import CAUSAL, CONFIGS, MIN_CONTEXT, embedder, sensitivity, text

TOLERANCE = 1e-5


@pytest.fixture(params=[*CONFIGS, *CAUSAL])
def config(request: pytest.FixtureRequest) -> EncoderConfig:
    config: EncoderConfig = (CONFIGS | CAUSAL)[request.param]
    return config


@pytest.fixture(params=CAUSAL)
def causal(request: pytest.FixtureRequest) -> Embedder:
    return embedder(CAUSAL[request.param])


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 7, 8, 9, 300])
def test_the_output_has_the_length_of_the_input(config: EncoderConfig, length: int) -> None:
    features = embedder(config)(text(length))
    assert features.shape == (1, length, 24) and features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert (features != 0).any(-1).all(), "every character has features"


def test_an_empty_batch_is_encoded(config: EncoderConfig) -> None:
    assert embedder(config)(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 5, 24)


@pytest.mark.parametrize("length", [1, 5, 13])
def test_padding_does_not_change_features(config: EncoderConfig, length: int) -> None:
    base, ids = embedder(config), text(length)
    alone = base(ids)
    for padding in (1, 3, 4, 50):
        padded = base(nn.functional.pad(ids, (0, padding)))
        assert_close(padded[:, :length], alone)
        assert (padded[:, length:] == 0).all()


def test_values_at_padding_are_ignored(config: EncoderConfig) -> None:
    encoder = config.build(16).eval()
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, 12, 16, generator=generator)
    mask = torch.arange(12)[None] < 7
    starts = torch.arange(12)[None] % 3 == 0
    other = torch.where(mask[..., None], features, 1e4)
    assert torch.equal(encoder(features, mask, starts), encoder(other, mask, starts))


def test_other_rows_of_the_batch_do_not_change_features(config: EncoderConfig) -> None:
    base = embedder(config)
    rows = torch.cat([nn.functional.pad(text(size, size), (0, 19 - size)) for size in (19, 12, 1, 0, 19)])
    together = base(rows)
    assert torch.isfinite(together).all() and (together[3] == 0).all()
    for index, row in enumerate(rows):
        assert_close(together[index : index + 1], base(row[None]))


def test_a_changed_character_changes_later_features(config: EncoderConfig) -> None:
    base, ids = embedder(config), text(40)
    before = base(ids)
    for position in (0, 21, 39):
        changed = ids.clone()
        changed[0, position] = 260 + (ids[0, position] - 259) % 10
        difference = (base(changed) - before).abs().amax(-1)[0]
        assert difference[position] > 1e-3
        assert (difference[position : position + 4] > 0).all()
        if base.causal:
            assert (difference[:position] <= TOLERANCE).all()
        elif position:
            assert difference[position - 1] > 0


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_encoder_has_gradients_from_all_earlier_characters_and_no_later_ones(name: str) -> None:
    base = embedder(CAUSAL[name])
    for length, padding in ((1, 0), (2, 3), (15, 0), (16, 7), (33, 0), (37, 5)):
        gradients = sensitivity(base, base.embedding, nn.functional.pad(text(length), (0, padding)))
        assert (gradients[length:] == 0).all() and (gradients[:, length:] == 0).all()
        gradients = gradients[:length, :length]
        assert (gradients.triu(1) == 0).all(), f"length {length}: a character sees a later one"
        within = torch.ones_like(gradients).tril().triu(-MIN_CONTEXT.get(name, length)) > 0
        assert (gradients[within] > 0).all(), f"length {length}: a character does not see all earlier ones"


def test_the_embedding_of_a_character_does_not_depend_on_later_ones() -> None:
    table = CharacterEmbedding(300, EmbeddingConfig(width=16, ngram_sizes=(2, 3, 4, 5)))
    for position in (0, 5, 19):
        embedded, changed = table(text(20)), text(20)
        changed[0, position + 1 :] = 260
        assert torch.equal(table(changed)[:, : position + 1], embedded[:, : position + 1])


def test_a_causal_encoder_encodes_a_prefix_like_the_whole_text(causal: Embedder) -> None:
    ids = text(30)
    whole = causal(ids)
    for length in (1, 4, 5, 8, 17):
        assert_close(causal(ids[:, :length]), whole[:, :length])


def test_only_causal_encoders_are_marked_as_causal() -> None:
    assert all(embedder(config).causal for config in CAUSAL.values())
    assert not any(embedder(config).causal for config in CONFIGS.values())


def test_a_tiny_batch_is_overfitted(config: EncoderConfig) -> None:
    """The task: for each character of random texts, predict the character three positions earlier."""
    base = embedder(config).train()
    ids = torch.cat([text(24, 1), text(24, 2)])
    head = nn.Linear(base.width, base.preprocessor.num_ids)
    optimizer = torch.optim.AdamW([*base.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(120):
        loss = nn.functional.cross_entropy(head(base(ids))[:, 3:].flatten(0, 1), ids[:, :-3].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
