"""Recipes: the kinds of noise, their rate, and what is protected. `engine.apply` applies them.

>>> recipe = NoiseRecipe(rate=0.1, kinds=["swap", "drop"])
>>> recipe.kinds
{'swap': 1.0, 'drop': 1.0}
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from cclm_core.noise.keyboards import LAYOUTS
from cclm_core.noise.kinds import TYPING, kind_named, kind_names
from cclm_core.runtime.config import Config, nearest


def _weights(kinds: Any) -> Any:
    if not isinstance(kinds, list | tuple):
        return kinds
    if not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"kinds must be names, got {list(kinds)!r:.80}")
    return dict.fromkeys(kinds, 1.0)


def _valid_kinds(kinds: dict[str, float]) -> dict[str, float]:
    for name, weight in kinds.items():
        if kind_named(name) is None:
            raise ValueError(f"no kind of noise is called {name!r}; {nearest(name, kind_names())}")
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of {name} must be above 0 and finite, got {weight}; remove it to disable it")
    if not kinds:
        raise ValueError(f"kinds must contain at least one of {', '.join(kind_names())}")
    return {name: kinds[name] for name in kind_names() if name in kinds}


def _distinct(rates: tuple[float, ...]) -> tuple[float, ...]:
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError(f"rates must differ in their first six digits, got {list(rates)}")
    return rates


def _keyboards(layouts: tuple[str, ...]) -> tuple[str, ...]:
    for name in layouts:
        if name not in LAYOUTS:
            raise ValueError(f"no keyboard is called {name!r}; {nearest(name, list(LAYOUTS))}")
    return layouts


Kinds = Annotated[dict[str, float], BeforeValidator(_weights), AfterValidator(_valid_kinds)]
Rate = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_distinct)]

SetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Layouts = Annotated[tuple[str, ...], AfterValidator(_keyboards), Field(min_length=1)]

_TYPING = dict.fromkeys(TYPING, 1.0)


class NoiseShape(Config):
    """All keys of a recipe except its rate; see `NoiseRecipe`.

    Attributes:
        unit: `character`, or `word`: at most one edit per word, anywhere in its letters or in the character after it.
        kinds: names with weights, or a list of names with equal weights. The kind of an edit is drawn from those that
            can act at the character or in the word, so the rate does not depend on the kinds.
        min_word_length: letters of shorter words are not edited.
        protect_first, protect_last: do not edit the first or the last letter of a word.
        protected_characters: characters that are not edited, such as `"0123456789"`.
        layouts: keyboards for the kind `keyboard`, one for each script, such as `[qwertz]` or `[qwerty, jcuken]`.
    """

    unit: Literal["character", "word"] = "character"
    kinds: Kinds = Field(default=_TYPING)
    min_word_length: int = Field(default=1, ge=1)
    protect_first: bool = False
    protect_last: bool = False
    protected_characters: str = ""
    layouts: Layouts = ("qwerty",)

    @model_validator(mode="after")
    def _replaces_whole_words(self) -> Self:
        if "misspelling" in self.kinds and (self.protect_first or self.protect_last):
            raise ValueError(
                "protect_first and protect_last cannot be combined with the kind misspelling, which replaces whole "
                "words; remove one of them"
            )
        return self


class NoiseRecipe(NoiseShape):
    """Noise of several kinds at one rate.

    Attributes:
        rate: the probability of an edit, 0 to 1, at each character or in each word where any of the kinds can act.

    The other keys are those of `NoiseShape`.
    """

    rate: Rate = 0.05


class TrainingNoise(NoiseRecipe):
    """The section `training_noise`: noise in training, drawn again for every batch. Rate 0 turns it off.

    Attributes:
        misspellings: the path of a list (see the module `misspellings`), required by the kind `misspelling`.
    """

    rate: Rate = 0.02
    misspellings: str | None = None


class SpellingSources(Config):
    """The sources of the misspellings in evaluation sets: a list, a corpus with two spellings of its texts, or both.

    All keys are optional. Without a list and variants there are no misspellings.

    Attributes:
        path: the path of a list; see the module `misspellings` for its formats.
        words, spellings: two variants of the corpus: the standard one, and the one to learn other spellings from.
        min_count: the minimum count of a spelling of a word in the corpus.
    """

    path: str | None = None
    words: str | None = None
    spellings: str | None = None
    min_count: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.words is None) != (self.spellings is None):
            raise ValueError(
                "words and spellings must both name a variant of the corpus, or neither, "
                f"got {self.words} and {self.spellings}; set both or remove both"
            )
        return self


class NoiseConfig(NoiseShape):
    """The section `noise`: the noisy evaluation sets.

    Attributes:
        rates: one set for each rate, with the recipe that the other keys define.
        sets: more sets, each with its own recipe, such as `natural: {unit: word, kinds: [misspelling]}`.
        misspellings: the sources for the kind `misspelling`; no other kind needs them.
        max_documents: the maximum number of documents per set, from the test split.
        variants: use only documents of these variants or without a variant; None for all documents.
    """

    rates: Rates = (0.05, 0.1, 0.2)
    sets: dict[SetName, NoiseRecipe] = Field(default_factory=dict)
    misspellings: SpellingSources = SpellingSources()
    max_documents: int = Field(default=1000, ge=1)
    variants: tuple[str, ...] | None = None

    @field_validator("sets")
    @classmethod
    def _not_clean(cls, sets: dict[str, NoiseRecipe]) -> dict[str, NoiseRecipe]:
        if "clean" in sets:
            raise ValueError("the name clean is reserved for the set without noise; choose another name")
        return sets

    def recipe(self, rate: float) -> NoiseRecipe:
        """The recipe of the set with this rate."""
        return NoiseRecipe(rate=rate, **{name: getattr(self, name) for name in NoiseShape.model_fields})
