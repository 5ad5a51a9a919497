"""The command line of the library: the stages of the pipeline over files, and tools for people."""

import os
import sys
from pathlib import Path
from typing import Annotated

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
    help="One stage of the pipeline, over files. dvc.yaml runs these commands with its paths.",
    no_args_is_help=True,
)
app.add_typer(stage, name="stage")
app.add_typer(shelf, name="shelf")

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters, a YAML file.")]
Out = Annotated[Path, typer.Option(help="The folder to publish; an existing one is replaced.")]
Corpus = Annotated[Path, typer.Option(help="The corpus, made by `ingest`.")]
Encoded = Annotated[Path, typer.Option(help="The encoded corpus, made by `vocab`.")]
Base = Annotated[Path, typer.Option(help="A frozen embedder, made by `base`, or a composition.")]
Checkpoints = Annotated[Path, typer.Option(help="The folder of checkpoints, which the caller removes afterwards.")]
Curve = Annotated[Path | None, typer.Option(help="A copy of the learning curve, for DVC's plots.")]
Name = Annotated[str, typer.Argument(help="Its name in the parameters.")]


def report_path() -> Path | None:
    """The JSONL file for progress reports, from the environment variable CCLM_REPORT; None if it is not set."""
    value = os.environ.get("CCLM_REPORT")
    return Path(value) if value else None


@stage.command()
def ingest(
    params: ParamsFile,
    out: Out,
    downloads: Annotated[Path, typer.Option(help="The folder for downloaded archives.")],
) -> None:
    """Read the sources into a corpus: records with text, author, group, label, entities, split."""
    from cclm_core.steps.ingest import ingest as run

    with reporting("ingest", report_path()) as report:
        run(Params.load(params), downloads, out, report)


@stage.command()
def vocab(params: ParamsFile, corpus: Corpus, out: Out) -> None:
    """Fit the character vocabulary and encode the corpus."""
    from cclm_core.steps.vocab import vocab as run

    with reporting("vocab", report_path()) as report:
        run(Params.load(params), corpus, out, report)


@stage.command()
def noise(params: ParamsFile, corpus: Corpus, out: Out) -> None:
    """Make the noisy evaluation sets."""
    from cclm_core.steps.noise import noise as run

    with reporting("noise", report_path()) as report:
        run(Params.load(params), corpus, out, report)


@stage.command()
def base(params: ParamsFile, encoded: Encoded, checkpoints: Checkpoints, out: Out, curve: Curve = None) -> None:
    """Pretrain the shared embedder."""
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
    """Train one component over the frozen embedder."""
    from cclm_core.steps.pretrain import pretrain as run

    with reporting(f"pretrain@{name}", report_path()) as report:
        run(Params.load(params), name, encoded, base, checkpoints, out, report, curve)


@stage.command()
def compose(
    name: Name,
    params: ParamsFile,
    base: Base,
    components: Annotated[Path, typer.Option(help="The folder that holds the parts, by name.")],
    out: Out,
) -> None:
    """Join the parts that `compositions.NAME` of the parameters lists into one model."""
    from cclm_core.steps.compose import compose as run

    with reporting(f"compose@{name}", report_path()) as report:
        run(Params.load(params), name, base, components, out, report)


@stage.command()
def evaluate(
    name: Name,
    params: ParamsFile,
    composition: Annotated[Path, typer.Option(help="The composition, made by `compose`.")],
    encoded: Encoded,
    noise: Annotated[Path, typer.Option(help="The evaluation sets, made by `noise`.")],
    out: Out,
    metrics: Annotated[Path | None, typer.Option(help="A copy of the metrics, for DVC's tables.")] = None,
    noise_curve: Annotated[Path | None, typer.Option(help="A CSV of the noise curves, for DVC's plots.")] = None,
) -> None:
    """Measure a composition on unseen groups."""
    from cclm_core.steps.evaluate import evaluate as run

    with reporting(f"evaluate@{name}", report_path()) as report:
        run(Params.load(params), name, composition, encoded, noise, out, report, metrics, noise_curve)


@app.command()
def correct(
    text: Annotated[str, typer.Argument(help="Text with errors; - reads standard input, line by line.")],
    component: Annotated[Path, typer.Option(help="A component trained by the objective denoise.")] = Path(
        "models/components/denoise"
    ),
    base: Base = Path("models/base"),
    alternatives: Annotated[int, typer.Option(min=0, help="Number of alternatives to show, most likely first.")] = 0,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Least probability of a change.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
) -> None:
    """Correct typing errors: deletions in red, insertions in green."""
    from cclm_core.cli.correct import show_corrections

    show_corrections(text, base, component, alternatives, min_confidence, as_json)


@app.command()
def fork(
    component: Annotated[Path, typer.Argument(help="A component over the base, e.g. models/components/x.")],
    out: Annotated[Path, typer.Argument(help="The folder of the new component; an existing one is replaced.")],
    base: Base = Path("models/base"),
) -> None:
    """Make a shared component independent, with its own copy of the base, so that it can be trained separately.

    The new component has the same output, name and head as the old one, and can replace it in any composition of the
    same vocabulary. Neither the old component nor the base is changed.
    """
    from cclm_core.steps.fork import fork as run

    print(run(component, base, out))


@app.command("noise")
def noise_command(
    text: Annotated[
        str | None, typer.Argument(help="The text to noise; - reads standard input (default: a sample).")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="A YAML file, or YAML on the line: '{rate: 0.1, kinds: {swap: 2, ocr: 1}, unit: word}'."),
    ] = "{}",
    misspellings: Annotated[
        Path | None, typer.Option(help="A list for the kind misspelling: .csv, or .txt with lines teh->the.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same noise.")] = 1,
    times: Annotated[int, typer.Option(min=1, help="Number of versions, each with the next seed.")] = 1,
    every_kind: Annotated[bool, typer.Option("--every-kind", help="List all kinds, each with an example.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per version, with the edit map.")
    ] = False,
) -> None:
    """Show what noise does to a text: removed text in red, inserted text in green."""
    from cclm_core.cli import noise as command

    if every_kind:
        command.show_kinds(text, seed, misspellings)
    else:
        command.show_noise(text, recipe, misspellings, seed, times, as_json)


@app.command()
def generate(
    prompt: Annotated[
        str, typer.Argument(help="The beginning of the text; - reads standard input; empty by default.")
    ] = "",
    component: Annotated[Path, typer.Option(help="A component trained on next_characters.")] = Path(
        "models/components/next"
    ),
    base: Base = Path("models/base"),
    max_characters: Annotated[
        int, typer.Option(help="Maximum number of characters; it stops where a text would end.")
    ] = 200,
    temperature: Annotated[
        float, typer.Option(help="0: always the most likely; 1: as predicted; above 1: more random.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely characters (default: all).")] = None,
    top_p: Annotated[
        float, typer.Option(help="Sample from the most likely characters that together have this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed generates the same text.")] = 1,
    times: Annotated[int, typer.Option(min=1, help="Number of texts, with consecutive seeds.")] = 1,
    context: Annotated[
        int | None,
        typer.Option(min=2, help="Ids that are read together at most (default: the window of the training)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
) -> None:
    """Continue a text with a component that predicts the next character.

    It needs a causal encoder, and a causal base or `independent: true`. In params.yaml:
    `task: {objective: next_characters}`, `encoder: {causal: true}`, `independent: true`.
    """
    from cclm_core.applications.generation import Sampling
    from cclm_core.cli.generate import show_generated

    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "max_characters": max_characters}
    sampling = Sampling.parse(values | {"seed": seed}, "cclm generate")
    show_generated(prompt, base, component, sampling, times, context, as_json)


def main() -> None:
    """Runs the command line; an error that a user can fix is printed in one message, with exit code 2."""
    # Threads that wait by spinning take the cores from other processes: training on two threads next to another job
    # took 71 s with spinning and 28 s without. It must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CclmError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
