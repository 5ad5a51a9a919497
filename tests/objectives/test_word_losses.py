"""Losses with drawn targets: the distribution of draws, the gradients, and what a head learns."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.objectives.word_losses import (
    DrawnLoss,
    FullSoftmaxConfig,
    NegativeSamplingConfig,
    Proposal,
    SampledSoftmax,
    SampledSoftmaxConfig,
    WordLossConfig,
)
from cclm_core.runtime.random import derive, seeded_initialization

NUM_TARGETS, WIDTH = 40, 8
SHARES = np.random.default_rng(1).permutation(1 / np.arange(1, NUM_TARGETS + 1))
SHARES /= SHARES.sum()
SAMPLED = [SampledSoftmaxConfig(num_draws=60, proposal=name) for name in ("log_uniform", "frequency")]
NEGATIVE = NegativeSamplingConfig(num_negatives=8)


def problem(size: int = 6) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head, features and true targets, including the most and the least frequent one."""
    with seeded_initialization(2):
        head, features = nn.Linear(WIDTH, NUM_TARGETS).double(), torch.randn(size, WIDTH, dtype=torch.float64)
        targets = torch.randint(NUM_TARGETS, (size,))
    targets[0], targets[1] = int(SHARES.argmax()), int(SHARES.argmin())
    return head, features.requires_grad_(), targets


def built(config: WordLossConfig) -> DrawnLoss:
    loss = config.build(SHARES)
    assert loss is not None
    return loss.double()


def gradient(loss: Tensor, head: nn.Linear, features: Tensor) -> Tensor:
    parts = torch.autograd.grad(loss, [head.weight, head.bias, features])
    return torch.cat([part.flatten() for part in parts])


def test_the_full_softmax_draws_nothing() -> None:
    assert FullSoftmaxConfig().build(SHARES) is None


@pytest.mark.parametrize("shares", [SHARES, SHARES**0.75, np.array([1.0, 3.0])])
def test_draws_follow_the_proposal(shares: np.ndarray) -> None:
    drawn = Proposal(shares).draw((200, 1000), derive(1))
    measured, expected = np.bincount(drawn.ravel(), minlength=len(shares)) / drawn.size, shares / shares.sum()
    assert np.abs(measured - expected).max() < 4 * np.sqrt(expected.max() / drawn.size)
    assert drawn.shape == (200, 1000) and drawn.min() >= 0 and drawn.max() < len(shares)


def test_the_log_uniform_proposal_prefers_frequent_targets() -> None:
    loss = built(SAMPLED[0])
    assert isinstance(loss, SampledSoftmax)
    by_rank = loss.proposal.shares[np.argsort(-SHARES)]
    ranks = np.arange(1, NUM_TARGETS + 1)
    assert by_rank == pytest.approx(np.log((ranks + 1) / ranks) / np.log(NUM_TARGETS + 1))


@pytest.mark.parametrize("config", SAMPLED, ids=lambda config: config.proposal)
def test_the_correction_is_the_probability_that_a_target_is_drawn(config: SampledSoftmaxConfig) -> None:
    loss = built(config)
    draws = np.zeros(NUM_TARGETS)
    generator, times = derive(3), 4000
    for _ in range(times):
        drawn = loss.draw(1, generator)
        assert (np.diff(drawn) > 0).all()
        draws[drawn] += 1
    expected = loss.get_buffer("log_expected").exp().numpy()
    assert np.abs(draws / times - expected).max() < 4 * 0.5 / np.sqrt(times)


@pytest.mark.parametrize("config", SAMPLED, ids=lambda config: config.proposal)
def test_the_mean_gradient_of_the_sampled_softmax_is_that_of_the_full_softmax(config: SampledSoftmaxConfig) -> None:
    head, features, targets = problem()
    exact = gradient(nn.functional.cross_entropy(head(features), targets, reduction="sum"), head, features)
    loss, generator, times = built(config), derive(4), 1500
    uncorrected = built(config)
    uncorrected.get_buffer("log_expected").zero_()
    mean, without = torch.zeros_like(exact), torch.zeros_like(exact)
    for _ in range(times):
        drawn = torch.from_numpy(loss.draw(len(targets), generator))
        mean += gradient(loss(head, features, targets, drawn).sum(), head, features) / times
        without += gradient(uncorrected(head, features, targets, drawn).sum(), head, features) / times
    # The remaining error is the bias of the logarithm of an estimated sum, and the variance of 1500 draws.
    assert (mean - exact).norm() < 0.03 * exact.norm()
    assert (without - exact).norm() > 4 * (mean - exact).norm()


def test_with_all_targets_drawn_the_sampled_softmax_is_the_full_softmax() -> None:
    """So the true target, which is also drawn, counts once."""
    head, features, targets = problem()
    loss = built(SampledSoftmaxConfig(num_draws=20_000))
    drawn = torch.from_numpy(loss.draw(len(targets), derive(5)))
    assert len(drawn) == NUM_TARGETS
    full = nn.functional.cross_entropy(head(features), targets, reduction="none")
    torch.testing.assert_close(loss(head, features, targets, drawn), full, atol=1e-6, rtol=1e-6)


def test_negative_sampling_equals_the_loss_of_the_paper() -> None:
    head, features, targets = problem(2)
    loss = built(NEGATIVE)
    drawn = torch.from_numpy(loss.draw(2, derive(6)))
    assert drawn.shape == (2, 8)
    power = SHARES**0.75 / (SHARES**0.75).sum()
    # The scores of the paper are our logits minus the log of the expected number of draws.
    logits = head(features) - torch.from_numpy(np.log(8 * power))
    expected = [
        -torch.log(torch.sigmoid(row[target])) - torch.log(torch.sigmoid(-row[negatives])).sum()
        for row, target, negatives in zip(logits, targets, drawn, strict=True)
    ]
    torch.testing.assert_close(loss(head, features, targets, drawn), torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_a_head_learns_the_probabilities_of_the_targets(config: WordLossConfig) -> None:
    """Each of four contexts has its own distribution of targets, which the softmax of the head approaches."""
    generator = derive(7)
    truth = generator.dirichlet(np.full(NUM_TARGETS, 0.3), size=4)
    with seeded_initialization(8):
        head = nn.Linear(4, NUM_TARGETS).double()
    loss, contexts = built(config), torch.eye(4, dtype=torch.float64)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)

    def divergence() -> float:
        learned = nn.functional.log_softmax(head(contexts), 1).detach().numpy()
        return float((truth * (np.log(truth + 1e-12) - learned)).sum(1).mean())

    before = divergence()
    for _ in range(400):
        context = generator.integers(4, size=400)
        targets = (generator.random((400, 1)) > truth.cumsum(1)[context, :-1]).sum(1)
        drawn = torch.from_numpy(loss.draw(len(targets), generator))
        optimizer.zero_grad()
        loss(head, contexts[context], torch.from_numpy(targets), drawn).mean().backward()
        optimizer.step()
        schedule.step()
    assert divergence() < 0.02 < 0.5 < before


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_draws_depend_only_on_the_generator(config: WordLossConfig) -> None:
    loss = built(config)
    torch.manual_seed(1)
    drawn = loss.draw(5, derive(9))
    torch.manual_seed(2)
    np.random.seed(3)
    assert np.array_equal(drawn, loss.draw(5, derive(9)))
    assert not np.array_equal(drawn, loss.draw(5, derive(10)))


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_an_empty_batch_has_no_loss(config: WordLossConfig) -> None:
    head, features, _ = problem()
    loss = built(config)
    drawn = torch.from_numpy(loss.draw(0, derive(11)))
    losses = loss(head, features[:0], torch.zeros(0, dtype=torch.int64), drawn)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert head.weight.grad is not None and head.weight.grad.abs().sum() == 0
