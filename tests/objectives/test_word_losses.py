"""Losses of drawn targets: what is drawn, what is estimated by it, and what a head learns from it."""

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
from cclm_core.runtime.random import derive, seeded_initialisation

NUM_TARGETS, WIDTH = 40, 8
SHARES = np.random.default_rng(1).permutation(1 / np.arange(1, NUM_TARGETS + 1))
SHARES /= SHARES.sum()
SAMPLED = [SampledSoftmaxConfig(num_draws=60, proposal=name) for name in ("log_uniform", "frequency")]
NEGATIVE = NegativeSamplingConfig(num_negatives=8)


def problem(number: int = 6) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head, features and wanted targets, one of them frequent and one of them rare."""
    with seeded_initialisation(2):
        head, features = nn.Linear(WIDTH, NUM_TARGETS).double(), torch.randn(number, WIDTH, dtype=torch.float64)
        wanted = torch.randint(NUM_TARGETS, (number,))
    wanted[0], wanted[1] = int(SHARES.argmax()), int(SHARES.argmin())
    return head, features.requires_grad_(), wanted


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
def test_the_measured_shares_are_those_asked_for(shares: np.ndarray) -> None:
    drawn = Proposal(shares).draw((200, 1000), derive(1))
    measured, expected = np.bincount(drawn.ravel(), minlength=len(shares)) / drawn.size, shares / shares.sum()
    assert np.abs(measured - expected).max() < 4 * np.sqrt(expected.max() / drawn.size)
    assert drawn.shape == (200, 1000) and drawn.min() >= 0 and drawn.max() < len(shares)


def test_the_more_frequent_target_is_the_likelier_under_a_log_uniform_proposal() -> None:
    loss = built(SAMPLED[0])
    assert isinstance(loss, SampledSoftmax)
    by_rank = loss.proposal.shares[np.argsort(-SHARES)]
    ranks = np.arange(1, NUM_TARGETS + 1)
    assert by_rank == pytest.approx(np.log((ranks + 1) / ranks) / np.log(NUM_TARGETS + 1))


@pytest.mark.parametrize("config", SAMPLED, ids=lambda config: config.proposal)
def test_a_target_is_among_the_drawn_as_often_as_its_score_is_lessened_by(config: SampledSoftmaxConfig) -> None:
    loss = built(config)
    often = np.zeros(NUM_TARGETS)
    generator, times = derive(3), 4000
    for _ in range(times):
        drawn = loss.draw(1, generator)
        assert (np.diff(drawn) > 0).all()
        often[drawn] += 1
    expected = loss.get_buffer("log_expected").exp().numpy()
    assert np.abs(often / times - expected).max() < 4 * 0.5 / np.sqrt(times)


@pytest.mark.parametrize("config", SAMPLED, ids=lambda config: config.proposal)
def test_the_gradient_of_the_sampled_softmax_is_that_of_the_full_one(config: SampledSoftmaxConfig) -> None:
    head, features, wanted = problem()
    exact = gradient(nn.functional.cross_entropy(head(features), wanted, reduction="sum"), head, features)
    loss, generator, times = built(config), derive(4), 1500
    uncorrected = built(config)
    uncorrected.get_buffer("log_expected").zero_()
    mean, without = torch.zeros_like(exact), torch.zeros_like(exact)
    for _ in range(times):
        drawn = torch.from_numpy(loss.draw(len(wanted), generator))
        mean += gradient(loss(head, features, wanted, drawn).sum(), head, features) / times
        without += gradient(uncorrected(head, features, wanted, drawn).sum(), head, features) / times
    # What is left is the bias of the logarithm of an estimated sum, and the chance of 1500 draws.
    assert (mean - exact).norm() < 0.03 * exact.norm()
    assert (without - exact).norm() > 4 * (mean - exact).norm()


def test_where_every_target_is_drawn_the_sampled_softmax_is_the_full_one() -> None:
    """So the wanted target, which is among the drawn, is not counted twice."""
    head, features, wanted = problem()
    loss = built(SampledSoftmaxConfig(num_draws=20_000))
    drawn = torch.from_numpy(loss.draw(len(wanted), derive(5)))
    assert len(drawn) == NUM_TARGETS
    full = nn.functional.cross_entropy(head(features), wanted, reduction="none")
    torch.testing.assert_close(loss(head, features, wanted, drawn), full, atol=1e-6, rtol=1e-6)


def test_negative_sampling_is_the_loss_of_the_paper() -> None:
    head, features, wanted = problem(2)
    loss = built(NEGATIVE)
    drawn = torch.from_numpy(loss.draw(2, derive(6)))
    assert drawn.shape == (2, 8)
    power = SHARES**0.75 / (SHARES**0.75).sum()
    # The bias of the paper's vectors, from which the head's is counted.
    scores = head(features) - torch.from_numpy(np.log(8 * power))
    expected = [
        -torch.log(torch.sigmoid(row[one])) - torch.log(torch.sigmoid(-row[others])).sum()
        for row, one, others in zip(scores, wanted, drawn, strict=True)
    ]
    torch.testing.assert_close(loss(head, features, wanted, drawn), torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_a_head_learns_the_probabilities_of_the_targets(config: WordLossConfig) -> None:
    """Each of four contexts has its own distribution over the targets; the softmax of the head's scores becomes it."""
    generator = derive(7)
    truth = generator.dirichlet(np.full(NUM_TARGETS, 0.3), size=4)
    with seeded_initialisation(8):
        head = nn.Linear(4, NUM_TARGETS).double()
    loss, contexts = built(config), torch.eye(4, dtype=torch.float64)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)

    def divergence() -> float:
        learnt = nn.functional.log_softmax(head(contexts), 1).detach().numpy()
        return float((truth * (np.log(truth + 1e-12) - learnt)).sum(1).mean())

    before = divergence()
    for _ in range(400):
        context = generator.integers(4, size=400)
        wanted = (generator.random((400, 1)) > truth.cumsum(1)[context, :-1]).sum(1)
        drawn = torch.from_numpy(loss.draw(len(wanted), generator))
        optimizer.zero_grad()
        loss(head, contexts[context], torch.from_numpy(wanted), drawn).mean().backward()
        optimizer.step()
        schedule.step()
    assert divergence() < 0.02 < 0.5 < before


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_what_is_drawn_depends_on_the_generator_alone(config: WordLossConfig) -> None:
    loss = built(config)
    torch.manual_seed(1)
    one = loss.draw(5, derive(9))
    torch.manual_seed(2)
    np.random.seed(3)
    assert np.array_equal(one, loss.draw(5, derive(9)))
    assert not np.array_equal(one, loss.draw(5, derive(10)))


@pytest.mark.parametrize("config", [*SAMPLED, NEGATIVE], ids=["log_uniform", "frequency", "negative"])
def test_nothing_wanted_costs_nothing(config: WordLossConfig) -> None:
    head, features, _ = problem()
    loss = built(config)
    drawn = torch.from_numpy(loss.draw(0, derive(11)))
    nothing = loss(head, features[:0], torch.zeros(0, dtype=torch.int64), drawn)
    assert nothing.shape == (0,)
    nothing.sum().backward()
    assert head.weight.grad is not None and head.weight.grad.abs().sum() == 0
