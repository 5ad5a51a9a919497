"""Random transformations of strings: noise recipes, changes of case, and your own functions.

>>> augmentor = Augmentor({"upper": 0.5, "typos": (0.5, NoiseRecipe(rate=1, kinds=["duplicate"]))})
>>> [augmentor("abc", np.random.default_rng(seed)) for seed in (1, 2, 3)]
['abc', 'AABBCC', 'AABBCC']
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.migration import old_arguments, old_attribute
from cclm_core.runtime.random import derive

Transform = Callable[[str, np.random.Generator], str]
"""Takes a string and a generator, and returns a string."""


def lower(text: str, generator: np.random.Generator | None = None) -> str:  # noqa: ARG001
    """Converts all letters to lowercase."""
    return text.lower()


def upper(text: str, generator: np.random.Generator | None = None) -> str:  # noqa: ARG001
    """Converts all letters to uppercase."""
    return text.upper()


def title_first(text: str, generator: np.random.Generator | None = None) -> str:  # noqa: ARG001
    """Converts the first character to title case and keeps the rest."""
    return text[:1].title() + text[1:]


TRANSFORMS: dict[str, Transform] = {"lower": lower, "upper": upper, "title_first": title_first}
"""The built-in transformations, as in the `Augmentor` of CCLM 0.1.2."""

DEFAULTS = {"lower": 0.02, "upper": 0.005, "title_first": 0.01}
"""The transformations and probabilities of an `Augmentor()`, as in CCLM 0.1.2."""


_ATTRIBUTES = {
    "transformations": "the probabilities are in `augmentor.probabilities`",
    "transformation_dict": "the probabilities are in `augmentor.probabilities`",
    "compile": "leave it out, because an augmentor is ready to use",
}


class Augmentor:
    """Applies transformations in order, each with its own probability.

    Args:
        transforms: for each name, its probability from 0 to 1 if the name is in `TRANSFORMS`, otherwise the pair
            (probability, transformation). A transformation is a `NoiseRecipe` or a function, see `Transform`. The form
            of CCLM 0.1.2 works, too: `{"function": f, "probability": p}`, where `f` takes only a string. None for
            `DEFAULTS`.
        seed: seed of `transform`.

    Raises:
        ConfigError: a name without a transformation is not in `TRANSFORMS`, a probability is outside 0 to 1, or an
            entry has another form.

    Source: the `Augmentor` of CCLM 0.1.2.
    """

    default_transformations: ClassVar[Mapping[str, float]] = DEFAULTS

    @old_arguments(aliases={"transformations": "transforms"})
    def __init__(
        self,
        transforms: Mapping[str, float | tuple[float, NoiseRecipe | Transform] | Mapping[str, Any]] | None = None,
        seed: int = 1,
    ) -> None:
        if transforms is not None and not isinstance(transforms, Mapping):
            raise ConfigError(
                f"`transforms` must map names to probabilities, got {type(transforms).__name__}. Write "
                '`Augmentor({"lower": 0.02})`.'
            )
        self.probabilities: dict[str, float] = {}
        self._transforms: dict[str, Transform] = {}
        self._generator = derive(seed, "augmentor")
        for name, value in (DEFAULTS if transforms is None else transforms).items():
            probability, transform = _entry(name, value)
            if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
                raise ConfigError(f"the probability of {name} must be between 0 and 1, got {probability!r}")
            self.probabilities[name] = probability
            self._transforms[name] = _noise(transform) if isinstance(transform, NoiseRecipe) else transform

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explains the attributes of cclm 0.1.2."""
            raise old_attribute(self, name, _ATTRIBUTES)

    def transform(self, text: str) -> str:
        """Like a call, with random numbers of its own: the results depend on `seed` and on the calls before."""
        return self(text, self._generator)

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


def _entry(name: str, value: Any) -> tuple[Any, Any]:
    """The probability and the transformation of an entry in one of the three forms."""
    match value:
        case Mapping():
            if value.keys() != {"function", "probability"} or not callable(value["function"]):
                raise ConfigError(
                    f"{name} must have a function and a probability, got {dict(value)!r:.80}. Write "
                    "(probability, function)."
                )
            function = value["function"]
            return value["probability"], lambda text, generator: function(text)  # noqa: ARG005
        case tuple():
            if len(value) != 2 or not (callable(value[1]) or isinstance(value[1], NoiseRecipe)):
                raise ConfigError(f"{name} must be a pair (probability, function), got {value!r:.80}")
            return value
        case _:
            return value, _built_in(name)


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
