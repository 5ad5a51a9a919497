"""Assigns records to splits. Whole groups are held out, so the groups of the test split are never trained on."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.corpus.records import SPLITS
from cclm_core.ingest.sources.columns import did_you_mean, listed
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import seeds_of

_NUM_SEEDS = float(1 << 63)
_MAX_NAMES = 1000  # group names kept for the hint in an error
_NO_GROUPS = "Set ingest.source.columns.group, or group_by_file to use the names of files."
_ENCODING_HINT = " If a file is not in UTF-8, set ingest.source.encoding, for example to cp1252."


class HeldOut(Config):
    """Which groups are held out: named ones, or a share of them."""

    validation_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    validation_share: float | None = Field(default=None, gt=0, lt=1)
    test_share: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("validation_groups", "test_groups", mode="before")
    @classmethod
    def _one_group(cls, groups: Any) -> Any:
        """Accepts one name without a list."""
        return [groups] if isinstance(groups, str) else groups

    @model_validator(mode="after")
    def _without_overlap(self) -> Self:
        for split, groups, share in self.held_out():
            if groups and share is not None:
                raise ValueError(f"set exactly one of `{split}_groups` and `{split}_share`")
        if both := set(self.validation_groups) & set(self.test_groups):
            raise ValueError(f"groups in both `validation_groups` and `test_groups`: {', '.join(sorted(both))}")
        total = (self.validation_share or 0) + (self.test_share or 0)
        if total >= 1:
            raise ValueError(f"`validation_share` + `test_share` must be below 1, got {total:g}")
        return self

    def held_out(self) -> tuple[tuple[str, tuple[str, ...], float | None], ...]:
        """The held-out splits, each with its groups and its share."""
        return (
            ("validation", self.validation_groups, self.validation_share),
            ("test", self.test_groups, self.test_share),
        )


class Splitter:
    """Assigns groups to splits by name or by a seeded hash of the name, independently of the order of records.

    Args:
        seed: seed of the run.
        groups: split → names of its groups.
        shares: split → its share of the groups that are not named, 0 to 1; the rest is for training.
    """

    def __init__(self, seed: int, groups: Mapping[str, Collection[str]], shares: Mapping[str, float]) -> None:
        self._seed, self._shares = seed, shares
        self._named = {name: split for split, names in groups.items() for name in names}
        self._missing = set(self._named)
        self._seen: set[str] = set()
        self._last: tuple[str | None, str] = (None, "")

    def split(self, group: str | None, record_id: str) -> str:
        """Returns the split of a record. A record without a group counts as a group."""
        if group is None:
            return self._assign(record_id)
        if group != self._last[0]:
            self._last = (group, self._assign(group))
        return self._last[1]

    def _assign(self, name: str) -> str:
        if name in self._named:
            return self._named[name]
        if not self._shares:
            return "train"
        point, upper = seeds_of(self._seed, "split")(name) / _NUM_SEEDS, 0.0
        for split in ("validation", "test"):
            upper += self._shares.get(split, 0.0)
            if point < upper:
                return split
        return "train"

    def note(self, groups: Callable[[], Collection[str | None]], ids: Callable[[], Collection[str]]) -> None:
        """Records which groups and ids occur, for `check`.

        Args:
            groups: returns the groups of a batch of records; called only while a named group is missing.
            ids: returns the ids of these records; called under the same condition.
        """
        if self._missing:
            names = [name for name in groups() if name is not None]
            self._missing.difference_update(names)
            self._missing.difference_update(ids())
            self._seen.update(names[: _MAX_NAMES - len(self._seen)])

    def check(self, counts: Mapping[str, int], rejected: Mapping[str, int], num_groups: int) -> None:
        """Checks that no split is empty and that all named groups occurred.

        Args:
            counts: split → number of records.
            rejected: reason → number of rejections, for the message.
            num_groups: number of groups, and of records without one, for the message.

        Raises:
            DataError: the corpus or a split is empty, or a named group did not occur.
        """
        total = sum(counts.values())
        if total == 0:
            reasons = ", ".join(f"{number} x {reason}" for reason, number in sorted(rejected.items()))
            cause = f"Rejected: {reasons}. Fix the input or" if reasons else "It is empty. Check"
            hint = _ENCODING_HINT if any(reason.startswith("invalid ") for reason in rejected) else ""
            raise DataError(f"no usable record in the source. {cause} ingest.source and ingest.filters.{hint}")
        if self._missing:
            name = sorted(self._missing)[0]
            seen = sorted(self._seen)
            known = f"The groups are {listed(seen)}." if seen else f"No record has a group. {_NO_GROUPS}"
            hint = did_you_mean(name, seen).strip() or known
            raise DataError(f"ingest.{self._named[name]}_groups: group {name!r} not found. {hint}")
        for split in SPLITS:
            if counts.get(split, 0) == 0:
                raise DataError(
                    f"split {split} got none of {total} records, which are in {num_groups} groups (a record without a "
                    "group is one). Groups are never divided. Use a larger corpus, more groups or other shares "
                    "(ingest.source.columns.group, ingest.*_groups, ingest.*_share)."
                )
