"""The options and the output that all benchmarks share: one row per figure, as a table or as JSON lines."""

import argparse
import json
import sys
from typing import Literal, NamedTuple, NoReturn

from rich.console import Console
from rich.table import Table

from cclm_core.runtime.reporting import format_number

ARROWS = {"higher": "↑", "lower": "↓", None: ""}
CAPTION = "↑ higher is better, ↓ lower is better; the ratio is the value divided by that of the peer or limit"


class Row(NamedTuple):
    """A figure and its comparison with a peer or a limit.

    Args:
        name: name of the figure.
        value: value in `unit`.
        unit: unit of the value.
        peer: the peer or limit with its value and unit, and other facts about the measurement.
        ratio: the value divided by that of the peer or limit; None if there is no comparison.
        better: whether a higher or a lower value is better; None if neither is.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    ratio: float | None = None
    better: Literal["higher", "lower"] | None = None


def options(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option `--json`; `description` is the docstring of the benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    return parser


def seed_list(text: str) -> list[int]:
    """Parses the option `--seeds`.

    >>> seed_list("1,2,3")
    [1, 2, 3]
    """
    return [int(seed) for seed in text.split(",")]


def show(title: str, rows: list[Row], as_json: bool) -> None:
    """Prints the rows as a table, or as JSON lines with unrounded values."""
    if as_json:
        for row in rows:
            print(json.dumps(row._asdict()))
        return
    table = Table(title=title, caption=CAPTION)
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("compared with")
    table.add_column("ratio", no_wrap=True)
    for row in rows:
        unit = f"{row.unit} {ARROWS[row.better]}".strip()
        table.add_row(row.name, format_number(row.value), unit, row.peer, ratio_in_words(row))
    Console(width=140).print(table)


def ratio_in_words(row: Row) -> str:
    """Returns the ratio of a row with a verdict.

    >>> ratio_in_words(Row("noise", 300.0, "characters/s", "textnoisr: 100 characters/s", 3.0, "higher"))
    '3.00 times the peer: better'
    >>> ratio_in_words(Row("cclm status", 3.0, "s", "limit: 2 s", 1.5, "lower"))
    '1.50 times the limit: worse'
    """
    if row.ratio is None:
        return ""
    ratio, reference = f"{row.ratio:#.3g}".rstrip("."), "limit" if row.peer.startswith("limit") else "peer"
    if row.better is None or row.ratio == 1:
        return f"{ratio} times the {reference}"
    verdict = "better" if (row.ratio > 1) == (row.better == "higher") else "worse"
    return f"{ratio} times the {reference}: {verdict}"


def exit_without_peer(error: ImportError) -> NoReturn:
    """Ends the benchmark because a peer is not installed."""
    sys.exit(
        f"this benchmark compares with a library that is not installed ({error}). Run `pip install -e '.[bench]'`."
    )
