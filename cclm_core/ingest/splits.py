"""Which split a record belongs to: whole groups are held out, so that test data were never seen in training."""

from collections.abc import Callable, Collection, Mapping

from cclm_core.corpus.records import SPLITS
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import seeds_of

_SEEDS = float(1 << 63)
_MOST_NAMES = 1000


class Splitter:
    """Assigns groups to splits, by name or by a seeded hash of the name; the order of records has no effect.

    Args:
        seed: of the whole run.
        groups: split → names of its groups.
        shares: split → its share of the other groups; the rest is for training.
    """

    def __init__(self, seed: int, groups: Mapping[str, Collection[str]], shares: Mapping[str, float]) -> None:
        self._seed, self._shares = seed, shares
        self._named = {name: split for split, names in groups.items() for name in names}
        self._missing = set(self._named)
        self._seen: set[str] = set()
        self._last: tuple[str | None, str] = (None, "")

    def split(self, group: str | None, record_id: str) -> str:
        """The split of a record; one without a group is a group of its own."""
        if group is None:
            return self._drawn(record_id)
        if group != self._last[0]:
            self._last = (group, self._drawn(group))
        return self._last[1]

    def _drawn(self, name: str) -> str:
        if name in self._named:
            return self._named[name]
        if not self._shares:
            return "train"
        point, reached = seeds_of(self._seed, "split")(name) / _SEEDS, 0.0
        for split in ("validation", "test"):
            reached += self._shares.get(split, 0.0)
            if point < reached:
                return split
        return "train"

    def note(self, groups: Callable[[], Collection[str | None]], ids: Callable[[], Collection[str]]) -> None:
        """Records which groups and ids have come, for `check`.

        Args:
            groups: called while a named group has not come yet.
            ids: likewise; a record without a group is named by its id.
        """
        if self._missing:
            names = [name for name in groups() if name is not None]
            self._missing.difference_update(names)
            self._missing.difference_update(ids())
            self._seen.update(names[: _MOST_NAMES - len(self._seen)])

    def check(self, counts: Mapping[str, int], rejected: Mapping[str, int]) -> None:
        """Checks that no split is empty and that all named groups came.

        Args:
            counts: split → number of records.
            rejected: reason → number of rejections, for the message.

        Raises:
            DataError: the corpus or a split is empty, or a named group never came.
        """
        total = sum(counts.values())
        if total == 0:
            reasons = ", ".join(f"{number} x {reason}" for reason, number in sorted(rejected.items()))
            raise DataError(
                "no usable record in the source. " + (f"Rejected: {reasons}." if reasons else "It is empty.")
            )
        if self._missing:
            name = sorted(self._missing)[0]
            hint = nearest(name, sorted(self._seen)[:50]) if self._seen else "no record has a group"
            raise DataError(f"ingest.{self._named[name]}_groups: group {name!r} not found; {hint}")
        for split in SPLITS:
            if counts.get(split, 0) == 0:
                raise DataError(
                    f"split {split} got none of {total} records. Use a larger corpus, other groups or another share "
                    "(ingest.*_groups, ingest.*_share)."
                )
