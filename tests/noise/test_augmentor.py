"""The augmentor: transformations with probabilities."""

import numpy as np
import pytest

from cclm_core.noise.augmentor import TRANSFORMS, Augmentor
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.runtime.errors import ConfigError, DataError


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
@pytest.mark.parametrize("text", ["", "a", "ß", "hello There"])
def test_built_in_transformations(name: str, text: str) -> None:
    """The `title_first` of CCLM 0.1.2 failed on an empty string."""
    expected = {"lower": text.lower(), "upper": text.upper(), "title_first": text[:1].title() + text[1:]}[name]
    assert Augmentor({name: 1.0})(text, np.random.default_rng(1)) == expected


def test_each_transformation_has_its_own_probability() -> None:
    augmentor = Augmentor({"upper": 0.2, "mark": (0.5, lambda text, _: text + "!")})
    generator = np.random.default_rng(1)
    texts = [augmentor("a", generator) for _ in range(4000)]
    assert abs(sum("A" in text for text in texts) - 800) <= 4 * np.sqrt(640)
    assert abs(sum("!" in text for text in texts) - 2000) <= 4 * np.sqrt(1000)


def test_recipes_and_functions_are_applied_in_order() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["duplicate"])
    augmentor = Augmentor({"upper": 1.0, "twice": (1.0, recipe), "end": (1.0, lambda text, _: text + "e")})
    assert augmentor("ab", np.random.default_rng(1)) == "AABBe"
    assert Augmentor({})("ab", np.random.default_rng(1)) == "ab"


def test_invalid_transformations_are_refused() -> None:
    with pytest.raises(ConfigError, match="no transformation is called 'uper'; did you mean 'upper'"):
        Augmentor({"uper": 0.1})
    with pytest.raises(ConfigError, match="probability of lower must be between 0 and 1, got 2"):
        Augmentor({"lower": 2})
    with pytest.raises(DataError, match="none must return a string, got NoneType"):
        Augmentor({"none": (1.0, lambda *_: None)})("a", np.random.default_rng(1))  # type: ignore[dict-item, return-value]
