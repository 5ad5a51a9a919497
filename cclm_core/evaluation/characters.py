"""The character readout: which character stood at a masked place, in bits."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.corpus.masking import mask_spans
from cclm_core.evaluation.config import CharactersProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import fit
from cclm_core.runtime.random import derive
from cclm_core.text.vocabulary import MASK


class Masked(NamedTuple):
    """Windows with masked places.

    Attributes:
        shown: (B, L) int64, what the model sees.
        places: (N,) int64, the masked places of the flattened windows.
        ids: (N,) int64, the ids that stood there.
        left, right: (N,) int64, the neighbours as shown; MASK at the edge of a window.
    """

    shown: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


def mask_windows(ids: npt.NDArray[np.int64], config: CharactersProbe, seed: int, split: str) -> Masked:
    """Masks windows `ids` (B, L) as the objective of masked characters does; `seed` and `split` decide where."""
    generator = derive(seed, "evaluation", "masks", split)
    shown, chosen = mask_spans(torch.from_numpy(ids), config.rate, config.mean_span, generator)
    seen = shown.numpy()
    around = np.pad(seen, ((0, 0), (1, 1)), constant_values=MASK)
    hidden = chosen.numpy()
    return Masked(seen, np.flatnonzero(hidden), ids[hidden], around[:, :-2][hidden], around[:, 2:][hidden])


def masked_bits(
    train: Masked,
    test: Masked,
    features: tuple[Tensor, Tensor],
    num_ids: int,
    config: CharactersProbe,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Bits (N,) that a readout fitted on `train` needs for each masked character of `test`.

    Args:
        train, test: masked windows.
        features: of their masked places, (M, W) and (N, W).
        num_ids: of the vocabulary.
        config: the readout knows the ids that were masked in `train`; its `smoothing` keeps the bits of others finite.
        seed: decides the order in which the rows are fitted.
    """
    known = np.unique(train.ids)
    targets = torch.from_numpy(np.searchsorted(known, train.ids))
    generator = derive(seed, "evaluation", "readout", "characters")
    readout = fit(features[0], targets, torch.ones(len(targets)), len(known), config.readout, generator)
    log_probabilities = readout.log_probabilities(features[1]).double().numpy()
    columns = np.searchsorted(known, test.ids).clip(max=len(known) - 1)
    found = np.exp(log_probabilities[np.arange(len(columns)), columns]) * (known[columns] == test.ids)
    bits: npt.NDArray[np.float64] = -np.log2((1 - config.smoothing) * found + config.smoothing / num_ids)
    return bits


def mean_bits(bits: npt.NDArray[np.float64]) -> float:
    """The mean of bits (N,), summed exactly."""
    return math.fsum(bits.tolist()) / len(bits)


def masked_features(reader: Reader, masked: Masked) -> Tensor:
    """Features (N, W) at the masked places, batch by batch."""
    length = masked.shown.shape[1]
    rows = max(1, reader.batch_characters // length)
    features = torch.empty(len(masked.places), reader.width)
    for first in range(0, len(masked.shown), rows):
        batch = masked.shown[first : first + rows]
        begin, end = np.searchsorted(masked.places, [first * length, (first + len(batch)) * length]).tolist()
        chosen = torch.from_numpy(masked.places[begin:end] - first * length)
        features[begin:end] = reader(batch).flatten(0, 1)[chosen]
    return features
