"""Small nested compositions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from torch import nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.fusion import FusionConfig
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import Base
from cclm_core.runtime.random import derive_seed, seeded_initialization
from tests.encoders.shapes import ATTENTION

FUSIONS = {config.model_fields["kind"].default: config for config in get_args(get_args(FusionConfig)[0])}
"""Fusion name -> configuration class."""


def over(base: Base, name: str, encoder: EncoderConfig = ATTENTION, independent: bool = False) -> Component:
    """A new component over `base`, with weights seeded by its name."""
    with seeded_initialization(derive_seed(1, name)):
        return Component(ComponentCard.over(base, name, "entities", encoder, independent))


def pair(base: Base, name: str = "pair") -> ComposedModel:
    """Two components over `base`, `first` and `second`."""
    return ComposedModel(base, [over(base, "first"), over(base, "second")], name)


def tower(base: Base) -> ComposedModel:
    """Components over a composition, over a composition, over a composition, over `base`."""
    lowest = pair(base, "lowest")
    middle = ComposedModel(lowest, [over(lowest, "third"), over(lowest, "fourth")], "middle")
    return ComposedModel(middle, [over(middle, "fifth")], "highest")


@contextmanager
def counted(*modules: nn.Module) -> Iterator[list[int]]:
    """Counts the calls of each module in the block."""
    calls = [0] * len(modules)

    def count(index: int) -> None:
        calls[index] += 1

    handles = [
        module.register_forward_hook(lambda *_, index=index: count(index)) for index, module in enumerate(modules)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
