"""Linear probes: they learn linear targets, are reproducible, and are invariant to the scale of features."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.evaluation.linear_probe import LinearProbe, LinearProbeConfig, Scale, fit, fit_penalized

CONFIG = LinearProbeConfig(steps=400, batch_rows=64, learning_rate=0.01, weight_decay=0.01)


def separable(rows: int = 600, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, width, generator=generator) * 5 + 3
    return features, features[:, :3].argmax(dim=1)


def names(targets: Tensor) -> list[str]:
    return ["abc"[target] for target in targets.tolist()]


def fitted(features: Tensor, targets: Tensor) -> LinearProbe:
    return fit(features, targets, torch.ones(len(targets)), 3, CONFIG, np.random.default_rng(0))


def test_linear_targets_are_learned() -> None:
    features, targets = separable()
    is_correct = fitted(features, targets).log_probabilities(features).argmax(1) == targets
    assert is_correct.float().mean().item() > 0.9
    predicted = fit_penalized(features, names(targets), 1e-4).predict(features)
    assert np.mean(np.array(predicted) == names(targets)) > 0.95


def test_equal_inputs_give_equal_bits() -> None:
    features, targets = separable()
    first, second = (fitted(features, targets) for _ in range(2))
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
    first_weights, second_weights = (fit_penalized(features, names(targets), 0.1).model.coef_ for _ in range(2))
    assert np.array_equal(first_weights, second_weights)


def test_constant_features_give_the_weighted_class_frequencies() -> None:
    targets = torch.tensor([0] * 300 + [1] * 100)
    weights = torch.where(targets == 0, 1.0, 9.0)
    config = CONFIG.model_copy(update={"batch_rows": 400})
    probe = fit(torch.full((400, 4), 7.0), targets, weights, 2, config, np.random.default_rng(0))
    shares = probe.log_probabilities(torch.full((1, 4), 7.0)).exp()[0]
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.75]), atol=0.01, rtol=0)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    features, targets = separable()
    scaled = features * torch.logspace(-2, 3, 8) - 40
    expected = fit_penalized(features, names(targets), 0.01).log_probabilities(features)
    rescaled = fit_penalized(scaled, names(targets), 0.01).log_probabilities(scaled)
    torch.testing.assert_close(rescaled, expected, atol=1e-3, rtol=1e-3)


def test_a_higher_penalty_gives_smaller_weights() -> None:
    features, targets = separable()
    sizes = [
        np.linalg.norm(fit_penalized(features, names(targets), penalty).model.coef_) for penalty in (1e-3, 1e-1, 10.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("num_labels", [2, 3])
def test_the_fit_minimizes_the_penalized_loss(num_labels: int) -> None:
    """The gradient of the documented loss, computed with torch, is zero at the fit."""
    features, targets = separable()
    targets = targets.clamp(max=num_labels - 1)
    penalty, probe = 0.02, fit_penalized(features, names(targets), 0.02)
    coefficients, intercept = torch.from_numpy(probe.model.coef_), torch.from_numpy(probe.model.intercept_)
    if num_labels == 2:  # scikit-learn stores the difference of the two multinomial weight vectors
        coefficients = torch.cat([-coefficients, coefficients]) / 2
        intercept = torch.cat([-intercept, intercept]) / 2
    weight, bias = coefficients.T.clone().requires_grad_(), intercept.clone().requires_grad_()
    scores = probe.scale(features.double()) @ weight + bias
    loss = torch.nn.functional.cross_entropy(scores, targets) + penalty / 2 * 8 * weight.square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and bias.grad is not None
    assert weight.grad.abs().max() < 1e-5 and bias.grad.abs().max() < 1e-5


def test_constant_features_are_mapped_to_zero() -> None:
    features = torch.stack([torch.full((5,), 1e6), torch.arange(5.0)], dim=1)
    scaled = Scale.of(features)(features)
    assert torch.equal(scaled[:, 0], torch.zeros(5))
    torch.testing.assert_close(scaled[:, 1].std(correction=0), torch.tensor(1.0))


def test_late_fusion_of_linear_probes_is_a_linear_probe() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(200, 6, generator=generator) * 3 + 1
    targets = torch.randint(3, (200,), generator=generator)
    columns = (torch.arange(2), torch.tensor([2, 4, 5]))
    narrow = [
        fit(features[:, own], targets, torch.ones(200), 3, LinearProbeConfig(steps=30), np.random.default_rng(1))
        for own in columns
    ]
    joined = LinearProbe.weighted_sum(
        [probe.widened(own, 6) for probe, own in zip(narrow, columns, strict=True)], [0.3, 1.2]
    )
    scores = [probe.log_probabilities(features[:, own]) for probe, own in zip(narrow, columns, strict=True)]
    expected = torch.log_softmax(0.3 * scores[0] + 1.2 * scores[1], dim=1)
    torch.testing.assert_close(joined.log_probabilities(features), expected, atol=1e-5, rtol=1e-5)
