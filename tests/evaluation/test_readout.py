import numpy as np
import torch

from cclm_core.evaluation.config import ReadoutConfig
from cclm_core.evaluation.readout import Scale, fit, fit_penalised

CONFIG = ReadoutConfig(steps=400, batch_rows=64, learning_rate=0.01, weight_decay=0.01)


def separable(rows=600, width=8):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, width, generator=generator) * 5 + 3
    return features, features[:, :3].argmax(dim=1)


def accuracy(readout, features, targets):
    return (readout.log_probabilities(features.to(readout.weight.dtype)).argmax(1) == targets).float().mean().item()


def test_what_is_linear_is_learnt():
    features, targets = separable()
    readout = fit(features, targets, torch.ones(600), 3, CONFIG, np.random.default_rng(0))
    assert accuracy(readout, features, targets) > 0.9
    assert accuracy(fit_penalised(features, targets, 3, 1e-4), features, targets) > 0.95


def test_equal_inputs_give_equal_bits():
    features, targets = separable()
    one, two = (fit(features, targets, torch.ones(600), 3, CONFIG, np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
    assert torch.equal(fit_penalised(features, targets, 3, 0.1).weight, fit_penalised(features, targets, 3, 0.1).weight)


def test_features_that_tell_nothing_give_the_weighted_class_frequencies():
    targets = torch.tensor([0] * 300 + [1] * 100)
    weights = torch.where(targets == 0, 1.0, 9.0)
    config = CONFIG.model_copy(update={"batch_rows": 400})
    readout = fit(torch.full((400, 4), 7.0), targets, weights, 2, config, np.random.default_rng(0))
    shares = readout.log_probabilities(torch.full((1, 4), 7.0)).exp()[0]
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.75]), atol=0.01, rtol=0)


def test_the_unit_of_a_feature_does_not_matter():
    features, targets = separable()
    scaled = features * torch.logspace(-2, 3, 8) - 40
    plain = fit_penalised(features, targets, 3, 0.01).log_probabilities(features.double())
    other = fit_penalised(scaled, targets, 3, 0.01).log_probabilities(scaled.double())
    torch.testing.assert_close(plain, other, atol=1e-3, rtol=1e-3)


def test_a_higher_penalty_gives_smaller_weights():
    features, targets = separable()
    sizes = [fit_penalised(features, targets, 3, penalty).weight.norm() for penalty in (1e-3, 1e-1, 10.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_feature_that_does_not_vary_becomes_zero():
    features = torch.stack([torch.full((5,), 1e6), torch.arange(5.0)], dim=1)
    scaled = Scale.of(features)(features)
    assert torch.equal(scaled[:, 0], torch.zeros(5))
    torch.testing.assert_close(scaled[:, 1].std(correction=0), torch.tensor(1.0))
