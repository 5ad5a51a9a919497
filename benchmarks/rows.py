"""What every benchmark prints: one row a figure, as a table or, with --json, one object a line."""

import json
import sys
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """A figure: `value` in `unit`, what it is compared with, and the ratio of the two (None where there is none)."""

    name: str
    value: float
    unit: str
    peer: str = ""
    ratio: float | None = None


def show(title: str, rows: list[Row]) -> None:
    """Prints the rows; `--json` on the command line makes them JSON lines."""
    if "--json" in sys.argv:
        for row in rows:
            print(json.dumps(row._asdict()))
        return
    table = Table(title=title)
    for column in Row._fields:
        table.add_column(
            column,
            justify="right" if column in ("value", "ratio") else "left",
            no_wrap=column in ("value", "unit", "ratio"),
        )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.4g}"
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.peer, ratio)
    Console(width=120).print(table)
