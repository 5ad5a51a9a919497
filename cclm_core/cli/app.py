"""The command line of the library: the pipeline stages, which read and write files, and tools for people."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cclm_core.cli.own_code import runs_own_code
from cclm_core.cli.own_data import app as own_data
from cclm_core.cli.settings import app as settings
from cclm_core.cli.shelf import app as shelf
from cclm_core.runtime.errors import CclmError, ConfigError
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
app.add_typer(settings, name="config")
app.add_typer(own_data)

ParamsFile = Annotated[Path, typer.Option("--params", help="YAML file with the parameters, e.g. params.yaml.")]
Out = Annotated[Path, typer.Option(help="Output folder. It is replaced when the command succeeds.")]
Corpus = Annotated[Path, typer.Option(help="Folder of the corpus, output of `ingest`.")]
Encoded = Annotated[Path, typer.Option(help="Folder of the encoded corpus, output of `vocab`.")]
Base = Annotated[Path, typer.Option(help="Folder of the base: an embedder, output of `base`, or a composition.")]
Checkpoints = Annotated[Path, typer.Option(help="Folder of checkpoints, to resume from. The caller removes it.")]
Curve = Annotated[Path | None, typer.Option(help="Also write the learning curve to this CSV file, for DVC's plots.")]
Downloads = Annotated[Path, typer.Option(help="Folder for downloaded archives.")]
Labeled = Annotated[Path, typer.Option(help="Folder that contains the labeled sets, by name.")]
Tasks = Annotated[Path, typer.Option(help="Folder that contains the models of tasks, by name.")]
NoiseSets = Annotated[Path, typer.Option(help="Folder of the noise sets, output of `noise`.")]
MetricsFile = Annotated[Path | None, typer.Option(help="Also write the metrics to this JSON file, for DVC's tables.")]
NoiseCurve = Annotated[Path | None, typer.Option(help="Also write the noise curves to this CSV file, for DVC's plots.")]
Name = Annotated[str, typer.Argument(help="Its name in the parameters, e.g. entities or full.")]


def report_path() -> Path | None:
    """The JSONL file for progress reports: the environment variable CCLM_REPORT, or None if it is not set."""
    value = os.environ.get("CCLM_REPORT")
    return Path(value) if value else None


@stage.command()
def ingest(
    params: ParamsFile,
    out: Out,
    downloads: Downloads,
    accepted: Annotated[Path | None, typer.Option(help="Folder with the profile of the accepted data.")] = None,
    checks: Annotated[
        Path | None, typer.Option(help="Output folder of the profile and the checks of the data.")
    ] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Output folder of the same, if an expectation stops the stage.")
    ] = None,
) -> None:
    """Read the sources into a corpus of records: text, author, group, label, entities, split."""
    from cclm_core.steps.ingest import Contract
    from cclm_core.steps.ingest import ingest as run

    contract = Contract(accepted, checks, refused) if accepted and checks and refused else None
    if contract is None and (accepted or checks or refused):
        raise ConfigError("--accepted, --checks and --refused go together. Pass all three, or none.")
    with reporting("ingest", report_path()) as report:
        run(Params.load(params), downloads, out, report, contract=contract)


@stage.command()
def labeled(
    name: Name,
    params: ParamsFile,
    out: Out,
    downloads: Downloads,
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
    noise: NoiseSets,
    out: Out,
    metrics: MetricsFile = None,
    noise_curve: NoiseCurve = None,
) -> None:
    """Measure a composition on the test split, clean and with noise."""
    from cclm_core.steps.evaluate import evaluate as run

    with reporting(f"evaluate@{name}", report_path()) as report:
        run(Params.load(params), name, composition, encoded, noise, out, report, metrics, noise_curve)


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
    noise: NoiseSets,
    out: Out,
    metrics: MetricsFile = None,
    noise_curve: NoiseCurve = None,
) -> None:
    """Measure the model of a task on its test texts, clean and with noise."""
    from cclm_core.steps.test import test as run

    with reporting(f"test@{name}", report_path()) as report:
        run(Params.load(params), name, task, labeled, noise, out, report, metrics, noise_curve)


@stage.command()
def fuse(
    name: Name,
    params: ParamsFile,
    tasks: Tasks,
    labeled: Labeled,
    out: Out,
) -> None:
    """Join the tasks listed under `ensembles.NAME` in the parameters into one model."""
    from cclm_core.steps.fuse import fuse as run

    with reporting(f"fuse@{name}", report_path()) as report:
        run(Params.load(params), name, tasks, labeled, out, report)


@stage.command()
def measure(
    name: Name,
    params: ParamsFile,
    ensemble: Annotated[Path, typer.Option(help="Folder of the ensemble, output of `fuse`.")],
    tasks: Tasks,
    labeled: Labeled,
    noise: NoiseSets,
    out: Out,
    metrics: MetricsFile = None,
    noise_curve: NoiseCurve = None,
) -> None:
    """Measure an ensemble and each of its parts on the same test texts, clean and with noise."""
    from cclm_core.steps.measure import measure as run

    with reporting(f"measure@{name}", report_path()) as report:
        run(Params.load(params), name, ensemble, tasks, labeled, noise, out, report, metrics, noise_curve)


@stage.command()
def report(
    params: ParamsFile,
    data: Annotated[Path, typer.Option(help="Folder with all data sets.")],
    models: Annotated[Path, typer.Option(help="Folder with all models.")],
    results: Annotated[Path, typer.Option(help="Folder with all results.")],
    out: Out,
) -> None:
    """Write one HTML page about the run: what is better, the data, learning curves, comparisons, mistakes, lineage."""
    from cclm_core.steps.report import report as run

    with reporting("report", report_path()) as progress:
        run(Params.load(params), data, models, results, out, progress)


@app.command()
@runs_own_code
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
@runs_own_code
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


@app.command()
@runs_own_code
def export(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a base, component, composition or task, e.g. models/compositions/full.")
    ],
    out: Annotated[Path, typer.Argument(help="Output folder: new, empty, or an earlier export, which is replaced.")],
    base: Annotated[Path, typer.Option(help="Folder of the base of a component.")] = Path("models/base"),
    results: Annotated[
        Path | None, typer.Option(help="Folder of the evaluation for the model card, e.g. results/full.")
    ] = None,
    license: Annotated[str, typer.Option(help="License of the model for the model card, e.g. Apache-2.0.")] = "",
    remote_code: Annotated[
        bool,
        typer.Option(
            "--remote-code",
            help="Add the code of the model, so that trust_remote_code=True loads it where cclm-core is not installed.",
        ),
    ] = False,
    drop_ngrams: Annotated[
        bool,
        typer.Option(
            "--drop-ngrams", help="Export the network of a task without its n-grams, which transformers cannot run."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export a model for Hugging Face transformers: weights, tokenizer and model card in one folder.

    A component keeps its trained head if transformers has such a model: masked_characters, next_characters, entities.
    It needs transformers: pip install 'cclm-core\\[huggingface]'.
    """
    from cclm_core.cli.export import show_export

    show_export(folder, out, base, results, license, remote_code, drop_ngrams, as_json)


@app.command("noise")
@runs_own_code
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
@runs_own_code
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
