"""Assigns records to splits. Whole groups are held out, so the groups of the test split are never trained on."""

from collections.abc import Callable, Collection, Mapping

from cclm_core.corpus.records import SPLITS
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import seeds_of

_NUM_SEEDS = float(1 << 63)
_MAX_NAMES = 1000  # group names kept for the hint in an error
_MAX_HINTS = 50


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

    def check(self, counts: Mapping[str, int], rejected: Mapping[str, int]) -> None:
        """Checks that no split is empty and that all named groups occurred.

        Args:
            counts: split → number of records.
            rejected: reason → number of rejections, for the message.

        Raises:
            DataError: the corpus or a split is empty, or a named group did not occur.
        """
        total = sum(counts.values())
        if total == 0:
            reasons = ", ".join(f"{number} x {reason}" for reason, number in sorted(rejected.items()))
            cause = f"Rejected: {reasons}. Fix the input or" if reasons else "It is empty. Check"
            raise DataError(f"no usable record in the source. {cause} ingest.source and ingest.filters.")
        if self._missing:
            name = sorted(self._missing)[0]
            hint = nearest(name, sorted(self._seen)[:_MAX_HINTS]) if self._seen else "no record has a group"
            raise DataError(f"ingest.{self._named[name]}_groups: group {name!r} not found; {hint}")
        for split in SPLITS:
            if counts.get(split, 0) == 0:
                raise DataError(
                    f"split {split} got none of {total} records. Use a larger corpus, other groups or other shares "
                    "(ingest.*_groups, ingest.*_share)."
                )
