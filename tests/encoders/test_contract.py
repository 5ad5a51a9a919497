"""What every encoder promises: any length, no influence of padding or neighbours, every character counts, it learns.

Features are float32; sums in another order differ in the last bits, hence the tolerance of 1e-5 on features of about 1.
"""

import pytest
import torch
from torch import Tensor, nn

from cclm_core.encoders import Embedder, EmbeddingConfig, EncoderConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from tests.encoders.shapes import CAUSAL, CONFIGS, REACH, embedder, seen, text

TOLERANCE = 1e-5


@pytest.fixture(params=[*CONFIGS, *CAUSAL])
def config(request: pytest.FixtureRequest) -> EncoderConfig:
    chosen: EncoderConfig = (CONFIGS | CAUSAL)[request.param]
    return chosen


@pytest.fixture(params=CAUSAL)
def causal(request: pytest.FixtureRequest) -> Embedder:
    return embedder(CAUSAL[request.param])


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 7, 8, 9, 300])
def test_any_length_comes_out_as_long_as_it_went_in(config: EncoderConfig, length: int) -> None:
    features = embedder(config)(text(length))
    assert features.shape == (1, length, 24) and features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert (features != 0).any(-1).all(), "no character comes out as nothing"


def test_a_batch_of_no_rows_comes_out_as_one(config: EncoderConfig) -> None:
    assert embedder(config)(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 5, 24)


@pytest.mark.parametrize("length", [1, 5, 13])
def test_padding_changes_nothing(config: EncoderConfig, length: int) -> None:
    base, ids = embedder(config), text(length)
    alone = base(ids)
    for padding in (1, 3, 4, 50):
        padded = base(nn.functional.pad(ids, (0, padding)))
        close(padded[:, :length], alone)
        assert (padded[:, length:] == 0).all()


def test_what_stands_at_padding_is_not_read(config: EncoderConfig) -> None:
    encoder = config.build(16).eval()
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, 12, 16, generator=generator)
    mask = torch.arange(12)[None] < 7
    starts = torch.arange(12)[None] % 3 == 0
    other = torch.where(mask[..., None], features, 1e4)
    assert torch.equal(encoder(features, mask, starts), encoder(other, mask, starts))


def test_neighbours_in_the_batch_change_nothing(config: EncoderConfig) -> None:
    base = embedder(config)
    rows = torch.cat([nn.functional.pad(text(size, size), (0, 19 - size)) for size in (19, 12, 1, 0, 19)])
    together = base(rows)
    assert torch.isfinite(together).all() and (together[3] == 0).all()
    for number, row in enumerate(rows):
        close(together[number : number + 1], base(row[None]))


def test_a_changed_character_changes_what_follows_it(config: EncoderConfig) -> None:
    base, ids = embedder(config), text(40)
    before = base(ids)
    for place in (0, 21, 39):
        other = ids.clone()
        other[0, place] = 260 + (ids[0, place] - 259) % 10
        moved = (base(other) - before).abs().amax(-1)[0]
        assert moved[place] > 1e-3
        assert (moved[place : place + 4] > 0).all()
        if base.causal:
            assert (moved[:place] <= TOLERANCE).all()
        elif place:
            assert moved[place - 1] > 0


@pytest.mark.parametrize("name", CAUSAL)
def test_gradients_come_from_everything_up_to_a_character_and_from_nothing_behind(name: str) -> None:
    base = embedder(CAUSAL[name])
    for length, padding in ((1, 0), (2, 3), (15, 0), (16, 7), (33, 0), (37, 5)):
        gradients = seen(base, base.embedding, nn.functional.pad(text(length), (0, padding)))
        assert (gradients[length:] == 0).all() and (gradients[:, length:] == 0).all()
        gradients = gradients[:length, :length]
        assert (gradients.triu(1) == 0).all(), f"of {length}, a character sees what stands behind it"
        within = torch.ones_like(gradients).tril().triu(-REACH.get(name, length)) > 0
        assert (gradients[within] > 0).all(), f"of {length}, a character does not see all that stands before it"


def test_the_embedding_of_a_character_is_told_by_none_behind_it() -> None:
    table = CharacterEmbedding(300, EmbeddingConfig(width=16, ngram_sizes=(2, 3, 4, 5)))
    for place in (0, 5, 19):
        embedded, other = table(text(20)), text(20)
        other[0, place + 1 :] = 260
        assert torch.equal(table(other)[:, : place + 1], embedded[:, : place + 1])


def test_a_causal_encoder_says_of_a_beginning_what_it_says_of_the_whole(causal: Embedder) -> None:
    ids = text(30)
    whole = causal(ids)
    for length in (1, 4, 5, 8, 17):
        close(causal(ids[:, :length]), whole[:, :length])


def test_only_the_causal_ones_say_that_they_are() -> None:
    assert all(embedder(config).causal for config in CAUSAL.values())
    assert not any(embedder(config).causal for config in CONFIGS.values())


def test_a_tiny_batch_is_overfitted(config: EncoderConfig) -> None:
    """It learns to say, of every character of random texts, which one stands three before it."""
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
