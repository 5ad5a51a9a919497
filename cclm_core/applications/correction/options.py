"""Ways to decide in several places at once, by how much less likely they are than the likeliest."""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Option(NamedTuple):
    """Another way to decide at one place.

    Attributes:
        cost: how much less likely it is than the likeliest there: the difference of natural logarithms, from 0.
        place: the number of the place.
        choice: the number of the choice.
    """

    cost: float
    place: int
    choice: int


def cheapest(options: Sequence[Option], most: int = 10_000) -> Iterator[tuple[float, list[Option]]]:
    """Sets of options for different places, by rising sum of their costs; the empty set comes first.

    Args:
        options: by rising cost.
        most: how many sets to look at.

    >>> a, b, c = Option(1.0, 0, 1), Option(1.5, 1, 1), Option(4.0, 0, 2)
    >>> [(cost, [(one.place, one.choice) for one in found]) for cost, found in cheapest([a, b, c], 4)]
    [(0.0, []), (1.0, [(0, 1)]), (1.5, [(1, 1)]), (2.5, [(0, 1), (1, 1)])]
    """
    yield 0.0, []
    # Each set is told by the index of its last option: it is extended by the next, or its last is replaced by the next.
    heap = [(options[0].cost, [0])] if options else []
    for _ in range(most - 1):
        if not heap:
            return
        cost, members = heapq.heappop(heap)
        chosen = [options[index] for index in members]
        if len({option.place for option in chosen}) == len(chosen):
            yield cost, chosen
        following = members[-1] + 1
        if following < len(options):
            step = options[following].cost
            heapq.heappush(heap, (cost + step, [*members, following]))
            heapq.heappush(heap, (cost + step - options[members[-1]].cost, [*members[:-1], following]))
