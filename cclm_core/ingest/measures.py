"""How much incoming data differ from the accepted data: shares, quantiles and distances, computed from profiles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cclm_core.ingest.profile import Accepted, Profile, Unit
from cclm_core.runtime.artifacts import rounded

UNLABELED = "(no label)"


class Measured(NamedTuple):
    """A measure of a unit.

    Attributes:
        value: of the incoming data.
        accepted: of the accepted data of the same source; None if there are none, or if the value compares with them.
        missing: why the value could not be computed; "" if it could.
        examples: a few records or names that show the value.
    """

    value: float = 0.0
    accepted: float | None = None
    missing: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Incoming:
    """A unit with what it is compared to.

    Attributes:
        unit: the source or the file.
        profile: its profile.
        contract: the accepted data; None if none have been accepted.
    """

    unit: Unit
    profile: Profile
    contract: Accepted | None

    @property
    def accepted(self) -> Profile | None:
        """The accepted data of the same source."""
        return None if self.contract is None else self.contract.sources.get(self.unit.source)

    @property
    def missing(self) -> str:
        """Why there is nothing to compare with; "" if there is."""
        if self.contract is None:
            return "no data have been accepted yet; `cclm data accept` accepts the current ones"
        return "" if self.accepted else f"the accepted data have no source {self.unit.source}"


def total_variation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation distance of two distributions, given as counts: 0 if they are equal, 1 if they share nothing.

    It is the share of one that would have to change to get the other.

    Source: Levin, Peres and Wilmer, Markov Chains and Mixing Times, 2nd edition (2017), section 4.1.

    >>> total_variation({"a": 1, "b": 1}, {"a": 30, "b": 10})
    0.25
    """
    total, others = sum(one.values()) or 1, sum(other.values()) or 1
    return sum(abs(one.get(name, 0) / total - other.get(name, 0) / others) for name in {*one, *other}) / 2


def texts(incoming: Incoming) -> Measured:
    """The number of texts."""
    return _compared(incoming, lambda profile: float(profile.texts))


def length(incoming: Incoming, quantile: float) -> Measured:
    """A quantile of the lengths of the texts, in characters."""
    measured = _compared(incoming, lambda profile: float(profile.lengths.get(quantile, 0)))
    is_shorter = measured.accepted is not None and measured.value < measured.accepted
    return measured._replace(examples=_examples(incoming, "shortest" if is_shorter else "longest"))


def rejected(incoming: Incoming) -> Measured:
    """The share of the input that is unusable, duplicates not included."""
    measured = _compared(incoming, lambda profile: _share(profile.rejected.total(), profile.texts + profile.duplicates))
    return measured._replace(examples=_examples(incoming, "rejected"))


def duplicates(incoming: Incoming) -> Measured:
    """The share of the usable input that `ingest.duplicates` removes."""
    measured = _compared(incoming, lambda profile: _share(profile.duplicates, profile.texts))
    return measured._replace(examples=_examples(incoming, "duplicates"))


def alphabet(incoming: Incoming) -> Measured:
    """The share of the characters that do not occur in the accepted data of any source."""
    contract, profile = incoming.contract, incoming.profile
    if contract is None:
        return Measured(missing=incoming.missing)
    value = _outside(profile, contract.known)
    return Measured(value, examples=_examples(incoming, "alphabet"))


def encoded_as_bytes(incoming: Incoming) -> Measured:
    """The share of the characters that the accepted vocabulary encodes as bytes."""
    if incoming.contract is None or incoming.contract.alphabet is None:
        reason = "there was no vocabulary when the data were accepted; run `cclm run`, then `cclm data accept`"
        return Measured(missing=incoming.missing if incoming.contract is None else reason)
    known = frozenset(incoming.contract.alphabet)
    measured = _compared(incoming, lambda profile: _outside(profile, known))
    return measured._replace(examples=_examples(incoming, "bytes"))


def bits(incoming: Incoming) -> Measured:
    """Bits per character under the trigrams of the accepted data of the same source."""
    if incoming.accepted is None:
        return Measured(missing=incoming.missing)
    if incoming.accepted.bits is None:
        return Measured(missing="too few texts were accepted, or by an earlier version; run `cclm data accept`")
    if incoming.profile.accepted_bits is None:
        return Measured(missing="there are too few texts")
    return Measured(incoming.profile.accepted_bits, incoming.accepted.bits, examples=_examples(incoming, "bits"))


def characters(incoming: Incoming) -> Measured:
    """The total variation distance between the frequencies of characters."""
    return _distance(incoming, lambda profile: profile.characters, repr)


def labels(incoming: Incoming) -> Measured:
    """The total variation distance between the shares of labels; texts without a label have a label of their own."""
    return _distance(incoming, lambda profile: {**profile.labels, UNLABELED: profile.unlabeled}, str)


def differences(incoming: Incoming) -> list[dict[str, Any]]:
    """Every measure of a unit, for tables.

    Returns:
        Rows with `measure`, `kind` (`count`, `share`, `distance` or `bits`), `now` and `accepted`.
    """
    rows = []
    measures: list[tuple[str, str, Measured]] = [
        ("texts", "count", texts(incoming)),
        ("median length", "count", length(incoming, 0.5)),
        ("95th percentile of lengths", "count", length(incoming, 0.95)),
        ("rejected input", "share", rejected(incoming)),
        ("duplicates", "share", duplicates(incoming)),
        ("characters encoded as bytes by the accepted vocabulary", "share", encoded_as_bytes(incoming)),
        ("characters that the accepted data do not have", "share", alphabet(incoming)),
        ("distance between the frequencies of characters", "distance", characters(incoming)),
        ("bits per character under the trigrams of the accepted data", "bits", bits(incoming)),
        ("distance between the shares of labels", "distance", labels(incoming)),
    ]
    for name, kind, measured in measures:
        if not measured.missing:
            accepted = None if measured.accepted is None else rounded(measured.accepted)
            rows.append({"measure": name, "kind": kind, "now": rounded(measured.value), "accepted": accepted})
    return rows


def _compared(incoming: Incoming, measure: Callable[[Profile], float]) -> Measured:
    accepted = incoming.accepted
    return Measured(measure(incoming.profile), None if accepted is None else measure(accepted))


def _distance(
    incoming: Incoming, counts: Callable[[Profile], Mapping[str, int]], shown: Callable[[str], str]
) -> Measured:
    if incoming.accepted is None:
        return Measured(missing=incoming.missing)
    now, before = counts(incoming.profile), counts(incoming.accepted)
    totals = sum(now.values()) or 1, sum(before.values()) or 1
    shares = {name: (now.get(name, 0) / totals[0], before.get(name, 0) / totals[1]) for name in {*now, *before}}
    largest = sorted(shares, key=lambda name: (-abs(shares[name][0] - shares[name][1]), name))[:3]
    examples = [f"{shown(name)}: {shares[name][0]:.2%}, accepted {shares[name][1]:.2%}" for name in largest]
    changed = [example for name, example in zip(largest, examples, strict=True) if shares[name][0] != shares[name][1]]
    return Measured(total_variation(now, before), examples=tuple(changed))


def _outside(profile: Profile, known: frozenset[str]) -> float:
    """The share of characters outside a set; those that a stored profile does not list count as outside."""
    inside = sum(number for character, number in profile.characters.items() if character in known)
    return 1 - inside / profile.total if profile.total else 0.0


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part else 0.0


def _examples(incoming: Incoming, measure: str) -> tuple[str, ...]:
    return tuple(incoming.profile.examples.get(measure, ()))
