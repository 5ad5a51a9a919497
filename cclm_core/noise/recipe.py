"""Recipes: which kinds of noise, how often, and what is spared. `noise.apply` carries them out.

>>> recipe = NoiseRecipe(rate=0.1, kinds=["swap", "drop"])
>>> recipe.kinds
{'swap': 1.0, 'drop': 1.0}
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from cclm_core.noise.catalogue import CATALOGUE, TYPING
from cclm_core.noise.layouts import LAYOUTS
from cclm_core.runtime.config import Config, nearest


def _weights(kinds: Any) -> Any:
    return dict.fromkeys(kinds, 1.0) if isinstance(kinds, list | tuple) else kinds


def _known(kinds: dict[str, float]) -> dict[str, float]:
    for name, weight in kinds.items():
        if name not in CATALOGUE:
            raise ValueError(f"no kind of noise is called {name!r}; {nearest(name, list(CATALOGUE))}")
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of {name} must be above 0; leave the kind out instead")
    if not kinds:
        raise ValueError(f"at least one kind of noise must be named, of {', '.join(CATALOGUE)}")
    return {name: kinds[name] for name in CATALOGUE if name in kinds}


def _distinct(rates: tuple[float, ...]) -> tuple[float, ...]:
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError("each rate must stand there once (six digits count)")
    return rates


def _keyboards(layouts: tuple[str, ...]) -> tuple[str, ...]:
    for name in layouts:
        if name not in LAYOUTS:
            raise ValueError(f"no keyboard is called {name!r}; {nearest(name, list(LAYOUTS))}")
    return layouts


Kinds = Annotated[dict[str, float], BeforeValidator(_weights), AfterValidator(_known)]
Rate = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_distinct)]

SetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Layouts = Annotated[tuple[str, ...], AfterValidator(_keyboards), Field(min_length=1)]

_TYPING = dict.fromkeys(TYPING, 1.0)


class _Shape(Config):
    """What recipes of different rates share; see `NoiseRecipe`."""

    unit: Literal["character", "word"] = "character"
    kinds: Kinds = Field(default=_TYPING)
    min_word_length: int = Field(default=1, ge=1)
    protect_first: bool = False
    protect_last: bool = False
    protected_characters: str = ""
    layouts: Layouts = ("qwerty",)

    @model_validator(mode="after")
    def _spelt_otherwise(self) -> Self:
        if "misspelling" in self.kinds and (self.protect_first or self.protect_last):
            raise ValueError(
                "protect_first and protect_last cannot hold with the kind misspelling, which replaces whole words; "
                "leave one of them out"
            )
        return self


class NoiseRecipe(_Shape):
    """Noise of several kinds at one rate.

    Attributes:
        rate: 0 to 1: the probability that a place at which one of the kinds can act starts an edit, or that a word
            in which one can act gets one; see `unit`.
        unit: `character`, or `word`: then a word (a run of letters, and what stands behind it) gets one edit at
            most, of a kind that can act in it, at a place where that kind can act.
        kinds: names with weights, or names alone, which weigh the same. A kind is chosen among those that can
            act, so the rate holds whatever the kinds.
        min_word_length: letters that a word must have for its letters to be touched.
        protect_first, protect_last: leave the first or the last letter of every word in its place.
        protected_characters: characters that stay as they are, e.g. `"0123456789"`.
        layouts: keyboards for the kind `keyboard`, one for each script, e.g. `[qwertz]` or `[qwerty, jcuken]`.
    """

    rate: Rate = 0.05


class TrainingNoise(NoiseRecipe):
    """The section `noise.training`: the noise that training draws afresh for every batch; rate 0 is none.

    Attributes:
        misspellings: the path of a list for the kind `misspelling` (see `noise.misspellings`).
    """

    rate: Rate = 0.02
    misspellings: str | None = None


class SpellingSources(Config):
    """Where the misspellings of evaluation sets come from: a list, a corpus that holds the same texts twice, or both.

    Attributes:
        path: a list; see `noise.misspellings` for its forms.
        words, spellings: the variants of the corpus that give words and their other spellings.
        min_count: how often a spelling must stand for a word in the corpus.
    """

    path: str | None = None
    words: str | None = None
    spellings: str | None = None
    min_count: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.words is None) != (self.spellings is None):
            raise ValueError("words and spellings name two variants of the corpus: give both or none")
        return self


class NoiseConfig(_Shape):
    """The section `noise`: the sets for evaluation, and the noise in training.

    Attributes:
        rates: one set of documents for each, by the recipe that the other keys make.
        sets: further sets, each by a recipe of its own, e.g. `natural: {unit: word, kinds: [misspelling]}`.
        misspellings: what the kind `misspelling` draws from in these sets.
        max_documents: how many documents of the test split at most.
        variants: only documents of these variants, and those that have none; all, if None.
        training: what training stages read, and nothing else does.
    """

    rates: Rates = (0.05, 0.1, 0.2)
    sets: dict[SetName, NoiseRecipe] = Field(default_factory=dict)
    misspellings: SpellingSources = SpellingSources()
    max_documents: int = Field(default=1000, ge=1)
    variants: tuple[str, ...] | None = None
    training: TrainingNoise = TrainingNoise()

    @field_validator("sets")
    @classmethod
    def _not_clean(cls, sets: dict[str, NoiseRecipe]) -> dict[str, NoiseRecipe]:
        if "clean" in sets:
            raise ValueError("a set cannot be called clean: that is the set without noise; choose another name")
        return sets

    def recipe(self, rate: float) -> NoiseRecipe:
        """The recipe of the set with that rate."""
        return NoiseRecipe(rate=rate, **{name: getattr(self, name) for name in _Shape.model_fields})
