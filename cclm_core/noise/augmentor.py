"""Random transformations of strings: noise recipes, changes of case, and your own functions.

>>> augmentor = Augmentor({"upper": 0.5, "typos": (0.5, NoiseRecipe(rate=1, kinds=["duplicate"]))})
>>> [augmentor("abc", np.random.default_rng(seed)) for seed in (1, 2, 3)]
['abc', 'AABBCC', 'AABBCC']
"""

from collections.abc import Callable, Mapping

import numpy as np

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError, DataError

Transform = Callable[[str, np.random.Generator], str]
"""Takes a string and a generator, and returns a string."""


def lower(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """Converts all letters to lowercase."""
    return text.lower()


def upper(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """Converts all letters to uppercase."""
    return text.upper()


def title_first(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """Converts the first character to title case and keeps the rest."""
    return text[:1].title() + text[1:]


TRANSFORMS: dict[str, Transform] = {"lower": lower, "upper": upper, "title_first": title_first}
"""The built-in transformations, as in the `Augmentor` of CCLM 0.1.2."""


class Augmentor:
    """Applies transformations in order, each with its own probability.

    Args:
        transforms: for each name, its probability from 0 to 1 if the name is in `TRANSFORMS`, otherwise the pair
            (probability, transformation). A transformation is a `NoiseRecipe` or a function, see `Transform`.

    Raises:
        ConfigError: a name without a transformation is not in `TRANSFORMS`, or a probability is outside 0 to 1.

    Source: the `Augmentor` of CCLM 0.1.2, whose defaults were lower 0.02, upper 0.005, title_first 0.01.
    """

    def __init__(self, transforms: Mapping[str, float | tuple[float, NoiseRecipe | Transform]]) -> None:
        self.probabilities: dict[str, float] = {}
        self._transforms: dict[str, Transform] = {}
        for name, value in transforms.items():
            probability, transform = value if isinstance(value, tuple) else (value, _built_in(name))
            if not 0 <= probability <= 1:
                raise ConfigError(f"the probability of {name} must be between 0 and 1, got {probability}")
            self.probabilities[name] = probability
            self._transforms[name] = _noise(transform) if isinstance(transform, NoiseRecipe) else transform

    def __call__(self, text: str, generator: np.random.Generator) -> str:
        """Applies each transformation with its probability.

        Raises:
            DataError: a transformation did not return a string.
        """
        for name, transform in self._transforms.items():
            if generator.random() < self.probabilities[name]:
                changed = transform(text, generator)
                if not isinstance(changed, str):
                    raise DataError(f"the transformation {name} must return a string, got {type(changed).__name__}")
                text = changed
        return text


def _built_in(name: str) -> Transform:
    if name not in TRANSFORMS:
        raise ConfigError(
            f"no transformation is called {name!r}; {nearest(name, list(TRANSFORMS))} "
            "(or pass your own as a pair (probability, function))"
        )
    return TRANSFORMS[name]


def _noise(recipe: NoiseRecipe) -> Transform:
    noiser = TextNoiser(recipe)
    return lambda text, generator: noiser(text, generator).text
