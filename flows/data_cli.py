"""The commands `cclm data accept` and `cclm data show`."""

from typing import Annotated

import typer

from cclm_core.cli.conventions import examples
from flows.environment import enter_project

data = typer.Typer(help="Compare the data with those that were accepted last, and accept them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@data.command("accept", epilog=examples("cclm data accept", "cclm data accept --refused"))
def accept_data(
    refused: Annotated[
        bool, typer.Option("--refused", help="Accept the data that an expectation stopped or put into quarantine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Accept the data of the corpus: the expectations compare later data with them. Writes contract/accepted.json."""
    from flows.run.data_contract import accept

    accept(enter_project(), refused, as_json)


@data.command("show", epilog=examples("cclm data show --json"))
def show_data(as_json: AsJson = False) -> None:
    """Show how the data of the corpus differ from the accepted ones, and which expectations are not met."""
    from flows.run.data_contract import show

    show(enter_project(), as_json)
