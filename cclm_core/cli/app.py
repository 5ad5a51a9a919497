"""The command line of the library: the pipeline stages, which read and write files, and tools for people."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cclm_core.cli.shelf import app as shelf
from cclm_core.runtime.errors import CclmError
from cclm_core.runtime.reporting import reporting
from cclm_core.runtime.terminal import printable
from cclm_core.steps.params import Params

app = typer.Typer(
    help="Composable character-level language models.", no_args_is_help=True, pretty_exceptions_enable=False
)
stage = typer.Typer(
    help="Run one stage of the pipeline on files. dvc.yaml runs these commands.",
    no_args_is_help=True,
)
app.add_typer(stage, name="stage")
app.add_typer(shelf, name="shelf")

TaskKind = Literal["classify", "multilabel", "regress", "tag", "pairs", "text"]
"""What `cclm init` can prepare. Repeated here, because importing it would import torch."""

ParamsFile = Annotated[Path, typer.Option("--params", help="YAML file with the parameters, e.g. params.yaml.")]
Out = Annotated[Path, typer.Option(help="Output folder. It is replaced when the command succeeds.")]
Corpus = Annotated[Path, typer.Option(help="Folder of the corpus, output of `ingest`.")]
Encoded = Annotated[Path, typer.Option(help="Folder of the encoded corpus, output of `vocab`.")]
Base = Annotated[Path, typer.Option(help="Folder of the base: an embedder, output of `base`, or a composition.")]
Checkpoints = Annotated[Path, typer.Option(help="Folder of checkpoints, to resume from. The caller removes it.")]
Curve = Annotated[Path | None, typer.Option(help="Also write the learning curve to this CSV file, for DVC's plots.")]
Name = Annotated[str, typer.Argument(help="Its name in the parameters, e.g. entities or full.")]


def report_path() -> Path | None:
    """The JSONL file for progress reports: the environment variable CCLM_REPORT, or None if it is not set."""
    value = os.environ.get("CCLM_REPORT")
    return Path(value) if value else None


@stage.command()
def ingest(
    params: ParamsFile,
    out: Out,
    downloads: Annotated[Path, typer.Option(help="Folder for downloaded archives.")],
) -> None:
    """Read the sources into a corpus of records: text, author, group, label, entities, split."""
    from cclm_core.steps.ingest import ingest as run

    with reporting("ingest", report_path()) as report:
        run(Params.load(params), downloads, out, report)


@stage.command()
def labeled(
    name: Name,
    params: ParamsFile,
    out: Out,
    downloads: Annotated[Path, typer.Option(help="Folder for downloaded archives.")],
) -> None:
    """Read, split and check the labeled data set `labeled.NAME` of the parameters."""
    from cclm_core.steps.labeled import labeled as run

    with reporting(f"labeled@{name}", report_path()) as report:
        run(Params.load(params), name, downloads, out, report)


@stage.command()
def vocab(params: ParamsFile, corpus: Corpus, out: Out) -> None:
    """Fit the character vocabulary and encode the corpus."""
    from cclm_core.steps.vocab import vocab as run

    with reporting("vocab", report_path()) as report:
        run(Params.load(params), corpus, out, report)


@stage.command()
def noise(params: ParamsFile, corpus: Corpus, out: Out) -> None:
    """Create the noise sets: test texts with several kinds of noise, and clean ones to compare with."""
    from cclm_core.steps.noise import noise as run

    with reporting("noise", report_path()) as report:
        run(Params.load(params), corpus, out, report)


@stage.command()
def base(params: ParamsFile, encoded: Encoded, checkpoints: Checkpoints, out: Out, curve: Curve = None) -> None:
    """Train the base: the embedder that all components share."""
    from cclm_core.steps.base import base as run

    with reporting("base", report_path()) as report:
        run(Params.load(params), encoded, checkpoints, out, report, curve)


@stage.command()
def pretrain(
    name: Name,
    params: ParamsFile,
    encoded: Encoded,
    base: Base,
    checkpoints: Checkpoints,
    out: Out,
    curve: Curve = None,
) -> None:
    """Train one component on the frozen base."""
    from cclm_core.steps.pretrain import pretrain as run

    with reporting(f"pretrain@{name}", report_path()) as report:
        run(Params.load(params), name, encoded, base, checkpoints, out, report, curve)


@stage.command()
def compose(
    name: Name,
    params: ParamsFile,
    base: Base,
    components: Annotated[Path, typer.Option(help="Folder that contains the parts, by name.")],
    out: Out,
) -> None:
    """Compose the parts listed under `compositions.NAME` in the parameters into one model."""
    from cclm_core.steps.compose import compose as run

    with reporting(f"compose@{name}", report_path()) as report:
        run(Params.load(params), name, base, components, out, report)


@stage.command()
def evaluate(
    name: Name,
    params: ParamsFile,
    composition: Annotated[Path, typer.Option(help="Folder of the composition, output of `compose`.")],
    encoded: Encoded,
    noise: Annotated[Path, typer.Option(help="Folder of the noise sets, output of `noise`.")],
    out: Out,
    metrics: Annotated[
        Path | None, typer.Option(help="Also write the metrics to this JSON file, for DVC's tables.")
    ] = None,
    noise_curve: Annotated[
        Path | None, typer.Option(help="Also write the noise curves to this CSV file, for DVC's plots.")
    ] = None,
) -> None:
    """Measure a composition on the test split, clean and with noise."""
    from cclm_core.steps.evaluate import evaluate as run

    with reporting(f"evaluate@{name}", report_path()) as report:
        run(Params.load(params), name, composition, encoded, noise, out, report, metrics, noise_curve)


Labeled = Annotated[Path, typer.Option(help="Folder that contains the labeled sets, by name.")]


@stage.command()
def finetune(
    name: Name,
    params: ParamsFile,
    labeled: Labeled,
    compositions: Annotated[Path, typer.Option(help="Folder that contains the compositions, by name.")],
    encoded: Encoded,
    checkpoints: Checkpoints,
    out: Out,
    curve: Curve = None,
) -> None:
    """Fine-tune a model on a task: `tasks.NAME` in the parameters."""
    from cclm_core.steps.finetune import finetune as run

    with reporting(f"finetune@{name}", report_path()) as report:
        run(Params.load(params), name, labeled, compositions, encoded, checkpoints, out, report, curve)


@stage.command()
def test(
    name: Name,
    params: ParamsFile,
    task: Annotated[Path, typer.Option(help="Folder of the model, output of `finetune`.")],
    labeled: Labeled,
    noise: Annotated[Path, typer.Option(help="Folder of the noise sets, output of `noise`.")],
    out: Out,
    metrics: Annotated[
        Path | None, typer.Option(help="Also write the metrics to this JSON file, for DVC's tables.")
    ] = None,
    noise_curve: Annotated[
        Path | None, typer.Option(help="Also write the noise curves to this CSV file, for DVC's plots.")
    ] = None,
) -> None:
    """Measure the model of a task on its test texts, clean and with noise."""
    from cclm_core.steps.test import test as run

    with reporting(f"test@{name}", report_path()) as report:
        run(Params.load(params), name, task, labeled, noise, out, report, metrics, noise_curve)


@app.command()
def init(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or patterns: CSV, TSV, JSON lines, Parquet, CoNLL, plain text; also compressed."
        ),
    ],
    text: Annotated[str | None, typer.Option(help="Column of the text; a number if the table has no header.")] = None,
    second: Annotated[str | None, typer.Option(help="Column of the second text, for a task on pairs.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Column of the label, labels or number. Repeat it for several columns of 0 and 1."),
    ] = None,
    tags: Annotated[str | None, typer.Option(help="Column of the tags of words, or of entity spans.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose texts stay in one split, such as an author or a thread.")
    ] = None,
    task: Annotated[
        TaskKind | None, typer.Option(help="Kind of task; text is a corpus without a task (default: recognized).")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="File of the test split (default: a fifth). Repeatable.")
    ] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="File of the validation split (default: a tenth). Repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the data set and its task (default: that of the first file).")
    ] = None,
    tag_names: Annotated[
        str | None, typer.Option(help="Names of tags that are numbers, in order: O,B-PER,I-PER.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the files, such as cp1252 (default: recognized).")
    ] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether tables have a header (default: recognized).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a changed params.yaml; a copy is kept in .cclm/replaced.")
    ] = False,
) -> None:
    """Look at your data and write a params.yaml for it. Prints what it saw and what it assumed.

    The files are copied to the folder `input` of the project. Nothing is moved, and git is not changed.
    """
    from cclm_core.cli.init import InitOptions, init_project, project_folder
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
    init_project(project_folder(), data, options)


Model = Annotated[
    str,
    typer.Argument(
        help="A folder, such as models/tasks/tickets; NAME, a task of this project; or NAME@ALIAS, a registered model.",
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders or patterns; - or nothing reads standard input."),
]
TextColumn = Annotated[str | None, typer.Option("--text", help="Column of the text in tables (default: text).")]
SecondColumn = Annotated[str | None, typer.Option("--second", help="Column of the second text, for pairs.")]
Keep = Annotated[list[str] | None, typer.Option(help="Column to copy to the output. Repeatable.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of the files, such as cp1252 (default: recognized).")]
StdinFormat = Annotated[
    Literal["text", "csv", "tsv", "jsonl", "parquet"],
    typer.Option("--stdin", help="Format of standard input; text is one text per line."),
]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1, max=256)]
LEFT_OUT = 3
"""Exit code: the output is complete, except for rows that cannot be used."""


@app.command()
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


@app.command()
def embed(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A folder; NAME, a task or composition of this project, or base; or NAME@ALIAS, a registered model."
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
    from cclm_core.cli.model_folder import COMPOSITIONS, TASKS, model_folder

    wanted = Input(paths=files or ("-",), text=text, keep=keep or (), encoding=encoding, stdin_format=stdin)
    with model_folder(model, context.obj, (TASKS, COMPOSITIONS)) as folder:
        problems = run(folder, wanted, out, by, precision, threads)
    problems.report()
    if problems.counts:
        raise typer.Exit(LEFT_OUT)


@app.command("evaluate")
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
    tags: Annotated[str | None, typer.Option(help="Column of the tags of words, or of entity spans.")] = None,
    tag_names: Annotated[
        str | None, typer.Option(help="Names of tags that are numbers, in order: O,B-PER,I-PER.")
    ] = None,
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


@app.command()
def correct(
    text: Annotated[str, typer.Argument(help="Text to correct; - corrects each line of standard input.")],
    component: Annotated[Path, typer.Option(help="Folder of a component trained on the objective denoise.")] = Path(
        "models/components/denoise"
    ),
    base: Base = Path("models/base"),
    alternatives: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of alternatives to show, most likely first. Their probabilities are relative to the text.",
        ),
    ] = 0,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Make only changes with at least this probability.")
    ] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per text.")] = False,
) -> None:
    """Correct typing errors in a text. On a terminal, deletions are red and insertions green.

    It needs a component trained on the objective denoise, which the default params.yaml does not have.
    Add one under components: `denoise: {task: {objective: denoise}}`.
    """
    from cclm_core.cli.correct import show_corrections

    show_corrections(text, base, component, alternatives, min_confidence, as_json)


@app.command()
def fork(
    component: Annotated[
        Path, typer.Argument(help="Folder of a component that shares the base, e.g. models/components/entities.")
    ],
    out: Annotated[Path, typer.Argument(help="Output folder for the new component. It is replaced.")],
    base: Base = Path("models/base"),
) -> None:
    """Copy a component together with its base, so that both can be trained without affecting other components.

    The new component has the same output, name and head.
    It can replace the old one in any composition with the same vocabulary.
    The old component and the base do not change.
    """
    from cclm_core.steps.fork import fork as run

    print(run(component, base, out))


@app.command("noise")
def noise_command(
    text: Annotated[
        str | None, typer.Argument(help="Text to add noise to; - reads standard input (default: a sample).")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="A YAML file, or inline YAML: '{rate: 0.1, kinds: {swap: 2, ocr: 1}, unit: word}'."),
    ] = "{}",
    misspellings: Annotated[
        Path | None,
        typer.Option(help="List for the kind misspelling: a .csv file, or a .txt file with lines like teh->the."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same noise.")] = 1,
    times: Annotated[int, typer.Option(min=1, help="Number of noisy versions, with consecutive seeds.")] = 1,
    every_kind: Annotated[bool, typer.Option("--every-kind", help="List all kinds, each with an example.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per version, with the edit map.")
    ] = False,
) -> None:
    """Add noise to a text. On a terminal, removed characters are red and inserted ones green."""
    from cclm_core.cli import noise as command

    if every_kind:
        command.show_kinds(text, seed, misspellings)
    else:
        command.show_noise(text, recipe, misspellings, seed, times, as_json)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Beginning of the text; - reads standard input (default: empty).")] = "",
    component: Annotated[
        Path, typer.Option(help="Folder of a component trained on the objective next_characters.")
    ] = Path("models/components/next"),
    base: Base = Path("models/base"),
    max_characters: Annotated[
        int, typer.Option(help="Maximum number of characters; generation can stop earlier, where the text ends.")
    ] = 200,
    temperature: Annotated[
        float,
        typer.Option(help="Randomness, 0 to 10. 0: always the most likely character; 1: the predicted probabilities."),
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely characters (default: all).")] = None,
    top_p: Annotated[
        float,
        typer.Option(help="Sample from the most likely characters with this total probability, above 0 and up to 1."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed generates the same text.")] = 1,
    times: Annotated[int, typer.Option(min=1, help="Number of texts, with consecutive seeds.")] = 1,
    context: Annotated[
        int | None,
        typer.Option(min=2, help="Number of preceding ids that the model reads (default: its training window)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per text.")] = False,
) -> None:
    """Continue a text with a component that predicts the next character.

    It needs a component trained on the objective next_characters, which the default params.yaml does not have.
    Add one under components:
    `next: {independent: true, task: {objective: next_characters}, encoder: {causal: true}}`.
    """
    from cclm_core.applications.generation import Sampling
    from cclm_core.cli.generate import show_generated

    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "max_characters": max_characters}
    sampling = Sampling.parse(values | {"seed": seed}, "cclm generate")
    show_generated(prompt, base, component, sampling, times, context, as_json)


def main() -> None:
    """Runs the command line. An error that the user can fix is printed as one message, with exit code 2."""
    # Waiting threads must not spin, because spinning takes the cores from other processes: training on two threads next
    # to another job took 71 s with spinning and 28 s without. Set this before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CclmError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
