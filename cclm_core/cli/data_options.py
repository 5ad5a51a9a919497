"""Options about a user's files that commands share, such as `cclm init`, `cclm add labeled` and `cclm evaluate`."""

from typing import Annotated

import typer

TableText = Annotated[
    str | None, typer.Option("--text", help="Column of the text; a number if the table has no header.")
]
PairText = Annotated[str | None, typer.Option("--second", help="Column of the second text, for a task on pairs.")]
LabelColumns = Annotated[
    list[str] | None,
    typer.Option("--label", help="Column of the label, labels or number. Repeat it for several columns of 0 and 1."),
]
TagColumn = Annotated[str | None, typer.Option("--tags", help="Column of the tags of words, or of entity spans.")]
GroupColumn = Annotated[
    str | None, typer.Option("--group", help="Column whose texts stay in one split, such as an author or a thread.")
]
TestFiles = Annotated[
    list[str] | None, typer.Option("--test", help="File of the test split (default: a fifth). Repeatable.")
]
ValidationFiles = Annotated[
    list[str] | None, typer.Option("--validation", help="File of the validation split (default: a tenth). Repeatable.")
]
TagNames = Annotated[
    str | None, typer.Option("--tag-names", help="Names of tags that are numbers, in order: O,B-PER,I-PER.")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of the files, such as cp1252 (default: recognized).")
]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether tables have a header (default: recognized).")
]
