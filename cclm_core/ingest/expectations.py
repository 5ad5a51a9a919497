"""Expectations: bounds on incoming data, checked while they are read (docs/contract.md).

A bound is absolute (`min`, `max`), or the largest difference to the data that were accepted last (`max_change`).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from cclm_core.ingest import measures
from cclm_core.ingest.measures import Incoming, Measured
from cclm_core.ingest.profile import QUANTILES, Accepted, Profile, Unit
from cclm_core.runtime.artifacts import rounded
from cclm_core.runtime.config import Config
from cclm_core.runtime.reporting import format_share

MET, NOT_MET, NOT_COMPARED, TOO_FEW = "met", "not met", "not compared", "too few texts"
"""States of a check."""


class ExpectationConfig(Config):
    """A bound on one measure of a source, or of each of its files.

    A subclass adds a field `expectation`, a literal of its name, and its bounds, and is listed in `Expectation`.
    """

    what: ClassVar[str]
    """The measure in words, for messages."""

    action: Literal["warn", "stop", "quarantine"] = Field(
        default="warn",
        description="if it is not met: `warn`; `stop` the stage, which keeps the former corpus; or put all records of "
        "the source or file into `quarantine`",
    )
    by: Literal["source", "file"] = Field(
        default="source",
        description="whether it is about a source or about each file; a file is compared to its source",
    )
    min_texts: int = Field(
        default=100, ge=1, description="a source or file with fewer texts is not checked, because its figures are noisy"
    )

    @property
    def name(self) -> str:
        """The name of the expectation in params.yaml."""
        return str(self.expectation)  # type: ignore[attr-defined]

    @abstractmethod
    def measured(self, incoming: Incoming) -> Measured:
        """The measure of a source or a file."""

    @abstractmethod
    def violated(self, measured: Measured) -> str | None:
        """The bound that a measure violates, in words; "" if none is; None if it cannot be compared."""

    @abstractmethod
    def shown(self, value: float) -> str:
        """A value for messages."""


class Counted(ExpectationConfig):
    """Bounds on a count: texts or characters."""

    min: int | None = Field(default=None, ge=0, description="smallest value; null for none")
    max: int | None = Field(default=None, ge=0, description="largest value; null for none")
    max_change: float | None = Field(
        default=0.5, gt=0, description="largest difference to the accepted data, as a share of theirs; null for any"
    )

    def violated(self, measured: Measured) -> str | None:
        """See `ExpectationConfig.violated`."""
        if outside := _outside_bounds(self, measured.value):
            return outside
        if self.max_change is None:
            return ""
        if not measured.accepted:
            return None
        if abs(measured.value - measured.accepted) <= self.max_change * measured.accepted:
            return ""
        return f"may differ by at most {self.max_change:.3%}".replace(".000%", "%") + (
            f" from {self.shown(measured.accepted)} in the accepted data"
        )

    def shown(self, value: float) -> str:
        """See `ExpectationConfig.shown`."""
        return f"{value:,.0f}"


class Shared(ExpectationConfig):
    """Bounds on a share, 0 to 1."""

    max: float | None = Field(default=None, ge=0, le=1, description="largest share; null for any")
    max_change: float | None = Field(
        default=0.05, gt=0, le=1, description="largest difference to the share in the accepted data; null for any"
    )

    def violated(self, measured: Measured) -> str | None:
        """See `ExpectationConfig.violated`."""
        if outside := _outside_bounds(self, measured.value):
            return outside
        if self.max_change is None:
            return ""
        if measured.accepted is None:
            return None
        if abs(measured.value - measured.accepted) <= self.max_change:
            return ""
        change = f"{100 * self.max_change:g} percentage points"
        return f"may differ by at most {change} from {self.shown(measured.accepted)} in the accepted data"

    def shown(self, value: float) -> str:
        """See `ExpectationConfig.shown`."""
        return format_share(value)


class Distant(ExpectationConfig):
    """A bound on a comparison with the accepted data, 0 to 1."""

    max: float = Field(ge=0, le=1, description="largest value")

    def violated(self, measured: Measured) -> str | None:
        """See `ExpectationConfig.violated`."""
        return _outside_bounds(self, measured.value)

    def shown(self, value: float) -> str:
        """See `ExpectationConfig.shown`."""
        return f"{value:.3f}"


class TextsExpectation(Counted):
    """The number of texts. A file that was cut off, or that was exported twice, changes it."""

    what = "number of texts"
    expectation: Literal["texts"]
    min_texts: int = Field(default=0, ge=0, description="as for the others; the number itself is not noisy")

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.texts(incoming)


class LengthExpectation(Counted):
    """A quantile of the lengths of the texts, in characters."""

    what = "length of the texts"
    expectation: Literal["length"]
    quantile: float = Field(default=0.5, description=f"one of {', '.join(map(str, QUANTILES))}; 0.5 is the median")

    @field_validator("quantile")
    @classmethod
    def _is_stored(cls, quantile: float) -> float:
        if quantile not in QUANTILES:
            raise ValueError(f"must be one of {', '.join(map(str, QUANTILES))}, got {quantile:g}")
        return quantile

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.length(incoming, self.quantile)


class RejectedExpectation(Shared):
    """The share of the input that is rejected: invalid lines, and texts that the filters reject."""

    what = "share of rejected input"
    expectation: Literal["rejected"]

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.rejected(incoming)


class DuplicatesExpectation(Shared):
    """The share of the input that `ingest.duplicates` removes."""

    what = "share of duplicates"
    expectation: Literal["duplicates"]

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.duplicates(incoming)


class BytesExpectation(Shared):
    """The share of the characters that the accepted vocabulary encodes as bytes: they are not in its alphabet."""

    what = "share of characters that the accepted vocabulary encodes as bytes"
    expectation: Literal["bytes"]
    max_change: float | None = Field(
        default=0.005, gt=0, le=1, description="largest difference to the share in the accepted data; null for any"
    )

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.encoded_as_bytes(incoming)


class AlphabetExpectation(Distant):
    """The share of the characters that do not occur in the accepted data."""

    what = "share of characters that the accepted data do not have"
    expectation: Literal["alphabet"]
    max: float = Field(default=0.001, ge=0, le=1, description="largest share of new characters")

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.alphabet(incoming)

    def shown(self, value: float) -> str:
        """See `ExpectationConfig.shown`."""
        return format_share(value)


class CharactersExpectation(Distant):
    """The total variation distance between the frequencies of characters. Another language or markup changes it."""

    what = "distance between the frequencies of characters and the accepted ones"
    expectation: Literal["characters"]
    max: float = Field(default=0.05, ge=0, le=1, description="largest distance")

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.characters(incoming)


class BitsExpectation(ExpectationConfig):
    """Bits per character under the trigrams of the accepted data. Texts that read differently change it: another
    language in the same letters, typing errors, markup, boilerplate."""

    what = "bits per character under the trigrams of the accepted data"
    expectation: Literal["bits"]
    max: float | None = Field(default=None, gt=0, description="most bits; null for any")
    max_change: float | None = Field(
        default=0.2, gt=0, description="largest difference to the bits of the accepted data; null for any"
    )
    min_texts: int = Field(
        default=500, ge=1, description="as for the others: samples of 500 short texts differ by about 0.1 bits"
    )

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.bits(incoming)

    def violated(self, measured: Measured) -> str | None:
        """See `ExpectationConfig.violated`."""
        if outside := _outside_bounds(self, measured.value):
            return outside
        if self.max_change is None or measured.accepted is None:
            return "" if self.max_change is None else None
        if abs(measured.value - measured.accepted) <= self.max_change:
            return ""
        return f"may differ by at most {self.max_change:g} from {self.shown(measured.accepted)} in the accepted data"

    def shown(self, value: float) -> str:
        """See `ExpectationConfig.shown`."""
        return f"{value:.2f}"


class LabelsExpectation(Distant):
    """The total variation distance between the shares of labels."""

    what = "distance between the shares of labels and the accepted ones"
    expectation: Literal["labels"]
    max: float = Field(default=0.1, ge=0, le=1, description="largest distance")

    def measured(self, incoming: Incoming) -> Measured:
        """See `ExpectationConfig.measured`."""
        return measures.labels(incoming)


Expectation = Annotated[
    TextsExpectation
    | LengthExpectation
    | RejectedExpectation
    | DuplicatesExpectation
    | BytesExpectation
    | AlphabetExpectation
    | CharactersExpectation
    | BitsExpectation
    | LabelsExpectation,
    Field(discriminator="expectation"),
]
"""The catalogue of expectations."""


@dataclass(frozen=True)
class Check:
    """An expectation and what came of it for one source or file.

    Attributes:
        expectation: its name.
        unit: the source or file.
        action: what to do if it is not met.
        state: `met`, `not met`, `not compared` (there is nothing to compare with) or `too few texts`.
        value: the measure.
        accepted: the measure of the accepted data, if it has one.
        message: a sentence with the value, the bound or why it was not compared, and examples.
    """

    expectation: str
    unit: Unit
    action: str
    state: str
    value: float
    accepted: float | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """The check as it is stored."""
        return asdict(self) | {"unit": str(self.unit), "source": self.unit.source, "file": self.unit.file}


def check(
    expectations: Iterable[ExpectationConfig], profiles: Mapping[Unit, Profile], contract: Accepted | None
) -> list[Check]:
    """Checks all sources and files, in the order of the expectations.

    Args:
        expectations: the expectations.
        profiles: the profiles of the sources, and of the files if an expectation is about files.
        contract: the accepted data; None if none have been accepted.
    """
    # A source that is gone has no text, which only the number of texts can tell.
    gone = {Unit(name): Profile() for name in (contract.sources if contract else ()) if Unit(name) not in profiles}
    checks = []
    for expectation in expectations:
        is_count = isinstance(expectation, TextsExpectation)
        for unit, profile in ({**profiles, **gone} if is_count else profiles).items():
            if bool(unit.file) == (expectation.by == "file"):
                checks.append(_check(expectation, Incoming(unit, profile, contract)))
    return checks


def _check(expectation: ExpectationConfig, incoming: Incoming) -> Check:
    measured = expectation.measured(incoming)
    violated = None if measured.missing else expectation.violated(measured)
    name = f"ingest.expectations.{expectation.name}"
    value = f"{name}: {incoming.unit}: {expectation.what}"
    if incoming.profile.texts < expectation.min_texts:
        state, message = TOO_FEW, f"{value}: not checked, because it has only {incoming.profile.texts} texts."
    elif violated is None:
        state, message = NOT_COMPARED, f"{value}: not compared: {measured.missing or incoming.missing}."
    elif violated:
        examples = f" Examples: {'; '.join(measured.examples)}." if measured.examples else ""
        message = f"{value} is {expectation.shown(measured.value)}; {violated}.{examples}"
        state = NOT_MET
    else:
        state, message = MET, f"{value} is {expectation.shown(measured.value)}."
    accepted = None if measured.accepted is None else rounded(measured.accepted)
    return Check(expectation.name, incoming.unit, expectation.action, state, rounded(measured.value), accepted, message)


def _outside_bounds(config: Any, value: float) -> str:
    """The absolute bound that a value violates, in words; "" if none is."""
    shown: Callable[[float], str] = config.shown
    low, high = getattr(config, "min", None), config.max
    if low is not None and value < low:
        return f"must be at least {shown(low)}"
    if high is not None and value > high:
        return f"must be at most {shown(high)}"
    return ""
