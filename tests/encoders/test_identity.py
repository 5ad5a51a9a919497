"""The encoder that changes nothing."""

import torch

from cclm_core.encoders import IdentityConfig


def test_features_are_unchanged_and_padding_is_zero() -> None:
    encoder = IdentityConfig().build(4)
    features = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, torch.inf]]])
    encoded = encoder(features, torch.tensor([[True, False]]))
    assert encoded.tolist() == [[[1, 2, 3, 4], [0, 0, 0, 0]]]
    assert encoder.width == 4 and not list(encoder.parameters())


def test_any_length_is_encoded_as_float32() -> None:
    encoder = IdentityConfig().build(4)
    assert encoder(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0, 4)
    assert encoder(torch.zeros(2, 3, 4).half(), torch.ones(2, 3, dtype=torch.bool)).dtype == torch.float32
