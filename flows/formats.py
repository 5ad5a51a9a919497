"""How people read directions of metrics, memory, times and Markdown tables; numbers, durations: `runtime.reporting`."""

import time
from collections.abc import Iterable, Sequence

# Better direction of a metric -> the sign next to its name.
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def format_megabytes(megabytes: float) -> str:
    """An amount of memory, given in megabytes.

    >>> [format_megabytes(megabytes) for megabytes in (312.4, 2150)]
    ['312 MB', '2.1 GB']
    """
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"


def format_utc(seconds: float) -> str:
    """A time in UTC, given in Unix seconds.

    >>> format_utc(0)
    '1970-01-01 00:00 UTC'
    """
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table of cells that are Markdown themselves; "" without rows.

    >>> print(markdown_table(["name", "value"], [["`a`", "1"]]))
    | name | value |
    | --- | --- |
    | `a` | 1 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if len(lines) > 2 else ""
