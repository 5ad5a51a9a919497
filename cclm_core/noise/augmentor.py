"""Named transformations of strings with probabilities: recipes of noise, changes of case, and users' own functions.

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


def lower(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """All letters small."""
    return text.lower()


def upper(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """All letters capital."""
    return text.upper()


def title_first(text: str, generator: np.random.Generator) -> str:  # noqa: ARG001
    """The first character capital; an empty text stays empty."""
    return text[:1].title() + text[1:]


TRANSFORMS: dict[str, Transform] = {"lower": lower, "upper": upper, "title_first": title_first}
"""Transformations that are known by name: those of the original CCLM's Augmentor."""


class Augmentor:
    """Applies transformations one after the other, each with its own probability.

    Args:
        transforms: by name. A name of `TRANSFORMS` needs a probability alone; any other one a pair of a probability
            and a `NoiseRecipe`, or a function that takes a string and a generator and returns a string.

    Raises:
        ConfigError: an unknown name without a function, or a probability outside 0 to 1.

    Source: the `Augmentor` of CCLM 0.1.2, whose defaults were lower 0.02, upper 0.005, title_first 0.01.
    """

    def __init__(self, transforms: Mapping[str, float | tuple[float, NoiseRecipe | Transform]]) -> None:
        self.probabilities: dict[str, float] = {}
        self._transforms: dict[str, Transform] = {}
        for name, value in transforms.items():
            probability, transform = value if isinstance(value, tuple) else (value, _known(name))
            if not 0 <= probability <= 1:
                raise ConfigError(f"the probability of {name} must be between 0 and 1, got {probability}")
            self.probabilities[name] = probability
            self._transforms[name] = _noise(transform) if isinstance(transform, NoiseRecipe) else transform

    def __call__(self, text: str, generator: np.random.Generator) -> str:
        """A text after the transformations that chance chose.

        Raises:
            DataError: a user's function returned no string.
        """
        for name, transform in self._transforms.items():
            if generator.random() < self.probabilities[name]:
                changed = transform(text, generator)
                if not isinstance(changed, str):
                    raise DataError(f"the transformation {name} must return a string, got {type(changed).__name__}")
                text = changed
        return text


def _known(name: str) -> Transform:
    if name not in TRANSFORMS:
        raise ConfigError(
            f"no transformation is called {name!r}; {nearest(name, list(TRANSFORMS))} "
            "Or give a pair of a probability and a function."
        )
    return TRANSFORMS[name]


def _noise(recipe: NoiseRecipe) -> Transform:
    noiser = TextNoiser(recipe)
    return lambda text, generator: noiser(text, generator).text
