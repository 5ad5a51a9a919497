"""The commands for a user's own data: `cclm init`, `predict`, `embed` and `evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cclm_core.cli import completion
from cclm_core.cli.conventions import DATA, examples
from cclm_core.cli.data_options import (
    Encoding,
    GroupColumn,
    Header,
    LabelColumns,
    PairText,
    TableText,
    TagColumn,
    TagNames,
    TestFiles,
    ValidationFiles,
)
from cclm_core.cli.own_code import runs_own_code

app = typer.Typer()

TaskKind = Literal["classify", "multilabel", "regress", "tag", "pairs", "text"]
"""What `cclm init` can prepare. Repeated here, because importing it would import torch."""

Model = Annotated[
    str,
    typer.Argument(
        help="A folder, such as models/tasks/tickets; NAME, a task or ensemble of this project; or NAME@ALIAS, a "
        "registered model.",
        autocompletion=completion.names("tasks", "ensembles"),
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders or patterns; - or nothing reads standard input."),
]
TextColumn = Annotated[str | None, typer.Option("--text", help="Column of the text in tables (default: text).")]
SecondColumn = Annotated[str | None, typer.Option("--second", help="Column of the second text, for pairs.")]
Keep = Annotated[list[str] | None, typer.Option(help="Column to copy to the output. Repeatable.")]
StdinFormat = Annotated[
    Literal["text", "csv", "tsv", "jsonl", "parquet"],
    typer.Option("--stdin", help="Format of standard input; text is one text per line."),
]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1, max=256)]
Recipe = Annotated[
    str | None,
    typer.Option(help="Instead of data: a commented params.yaml of the folder recipes; `list` lists them."),
]
NewName = Annotated[
    str | None, typer.Option(help="Name of the data set and its task (default: that of the first file).")
]
LEFT_OUT = 3
"""Exit code: the output is complete, except for rows that cannot be used."""


@app.command(
    rich_help_panel=DATA,
    epilog=examples(
        "cclm init tickets.csv",
        "cclm init train.csv --test test.csv --text body --label intent",
        "cclm init train.conll --validation dev.conll --test test.conll",
        "cclm init notes.txt --task text",
    ),
)
def init(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders or patterns: CSV, TSV, JSON lines, Parquet, CoNLL, plain text; also compressed."
        ),
    ] = None,
    recipe: Recipe = None,
    text: TableText = None,
    second: PairText = None,
    label: LabelColumns = None,
    tags: TagColumn = None,
    group: GroupColumn = None,
    task: Annotated[
        TaskKind | None, typer.Option(help="Kind of task; text is a corpus without a task (default: recognized).")
    ] = None,
    test: TestFiles = None,
    validation: ValidationFiles = None,
    name: NewName = None,
    tag_names: TagNames = None,
    encoding: Encoding = None,
    header: Header = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a changed params.yaml; a copy is kept in .cclm/replaced.")
    ] = False,
) -> None:
    """Look at your data and write a params.yaml for it, or take a recipe. Prints what it saw and what it assumed.

    The files are copied to the folder `input` of the project. Nothing is moved, and git is not changed.
    """
    from cclm_core.cli.init import InitOptions, init_project, project_folder, refuse_both
    from cclm_core.cli.recipes import init_recipe
    from cclm_core.survey.roles import Asked

    options = InitOptions(
        asked=Asked(text=text, second=second, label=tuple(label or ()), tags=tags, group=group, task=task),
        test=test or (),
        validation=validation or (),
        name=name,
        tag_names=tag_names.split(",") if tag_names else (),
        encoding=encoding,
        has_header=header,
        force=force,
    )
    refuse_both(data or [], recipe, options)
    if recipe is not None:
        init_recipe(project_folder(), recipe, force)
    else:
        init_project(project_folder(), data or [], options)


@app.command(
    rich_help_panel=DATA,
    epilog=examples(
        'echo "where is my parcle" | cclm predict tickets',
        "cclm predict tickets mail.csv --text body --keep id --out predicted.csv",
        "cclm predict tickets@champion inbox/*.jsonl --scores",
    ),
)
@runs_own_code
def predict(
    context: typer.Context,
    model: Model,
    files: Files = None,
    text: TextColumn = None,
    second: SecondColumn = None,
    keep: Keep = None,
    out: Annotated[
        Path | None, typer.Option(help="Output: .jsonl, .csv or .parquet (default: JSON lines on standard output).")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Also write the score of every label.")] = False,
    encoding: Encoding = None,
    stdin: StdinFormat = "text",
    threads: Threads = 1,
) -> None:
    """Predict texts with the model of a task: labels, numbers or entities, one row per text, as a stream.

    Reads plain lines, CSV, TSV, JSON lines, Parquet and CoNLL, also compressed. In plain lines, a tab separates pairs.
    Exit codes: 0 success; 2 an error that you must fix; 3 some rows cannot be used and were left out. Their file, line
    and reason are printed on standard error.
    """
    from cclm_core.cli.inputs import Input
    from cclm_core.cli.model_folder import model_folder
    from cclm_core.cli.predict import predict as run

    wanted = Input(
        paths=files or ("-",), text=text, second=second, keep=keep or (), encoding=encoding, stdin_format=stdin
    )
    with model_folder(model, context.obj) as folder:
        problems = run(folder, wanted, out, scores, threads)
    problems.report()
    if problems.counts:
        raise typer.Exit(LEFT_OUT)


@app.command(
    rich_help_panel=DATA,
    epilog=examples(
        "cclm embed full messages.txt --out vectors.parquet",
        "cclm embed full messages.csv --by author --out authors.parquet",
    ),
)
@runs_own_code
def embed(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A folder; NAME, a task or composition of this project, or base; or NAME@ALIAS, a registered model.",
            autocompletion=completion.models("base"),
        ),
    ],
    files: Files = None,
    text: TextColumn = None,
    by: Annotated[
        str | None, typer.Option(help="Column, such as an author: one vector per value, the mean of its texts.")
    ] = None,
    keep: Keep = None,
    out: Annotated[
        Path | None, typer.Option(help="Output: .parquet or .jsonl (default: JSON lines on standard output).")
    ] = None,
    precision: Annotated[
        Literal["float32", "float16"], typer.Option(help="Type of the numbers in Parquet.")
    ] = "float32",
    encoding: Encoding = None,
    stdin: StdinFormat = "text",
    threads: Threads = 1,
) -> None:
    """Embed texts of any length: one vector per text, the mean over its characters, as a stream.

    Memory does not grow with the input. Exit codes are those of `cclm predict`.
    """
    from cclm_core.cli.embed import embed as run
    from cclm_core.cli.inputs import Input
    from cclm_core.cli.model_folder import COMPOSITIONS, ENSEMBLES, TASKS, model_folder

    wanted = Input(paths=files or ("-",), text=text, keep=keep or (), encoding=encoding, stdin_format=stdin)
    with model_folder(model, context.obj, (TASKS, ENSEMBLES, COMPOSITIONS)) as folder:
        problems = run(folder, wanted, out, by, precision, threads)
    problems.report()
    if problems.counts:
        raise typer.Exit(LEFT_OUT)


@app.command(
    "evaluate",
    rich_help_panel=DATA,
    epilog=examples("cclm evaluate tickets new.csv --label intent", "cclm evaluate tickets new.csv --noise 0.1 --json"),
)
@runs_own_code
def evaluate_task(
    context: typer.Context,
    model: Model,
    files: Annotated[list[str], typer.Argument(help="Labeled files, folders or patterns.")],
    text: TextColumn = None,
    second: SecondColumn = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Column of the label, labels or number (default: label). Repeat it for columns of 0 and 1."),
    ] = None,
    tags: TagColumn = None,
    tag_names: TagNames = None,
    noise: Annotated[
        list[float] | None,
        typer.Option(help="Also measure with typing errors in this share of the letters (default: 0.05, 0.1, 0.2)."),
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Measure without noise only.")] = False,
    encoding: Encoding = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the intervals.", min=0)] = 1,
    threads: Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the model of a task on labeled files, clean and under noise, with 95 % intervals.

    Labels that the model does not know count as errors and are listed. Exit codes are those of `cclm predict`.
    """
    from cclm_core.cli.evaluate import LabeledInput
    from cclm_core.cli.evaluate import evaluate as run
    from cclm_core.cli.model_folder import model_folder

    wanted = LabeledInput(
        paths=files,
        text=text,
        second=second,
        label=tuple(label or ()),
        tags=tags,
        tag_names=tuple(tag_names.split(",")) if tag_names else (),
        encoding=encoding,
    )
    rates = () if clean else tuple(noise or (0.05, 0.1, 0.2))
    with model_folder(model, context.obj) as folder:
        problems = run(folder, wanted, rates, seed, threads, as_json)
    problems.report()
    if problems.counts:
        raise typer.Exit(LEFT_OUT)
