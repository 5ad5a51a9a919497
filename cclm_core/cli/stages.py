"""`cclm stage`: the stages of the pipeline, which read and write files. dvc.yaml runs these commands."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cclm_core.cli import completion
from cclm_core.cli.own_code import runs_own_code
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.reporting import reporting
from cclm_core.steps.params import Params

stage = typer.Typer(
    help="Run one stage of the pipeline on files. dvc.yaml runs these commands.",
    no_args_is_help=True,
)

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
Name = Annotated[
    str,
    typer.Argument(
        help="Its name in the parameters, e.g. entities or full.",
        autocompletion=completion.names("labeled", "components", "compositions", "tasks", "ensembles"),
    ),
]


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
@runs_own_code
def base(params: ParamsFile, encoded: Encoded, checkpoints: Checkpoints, out: Out, curve: Curve = None) -> None:
    """Train the base: the embedder that all components share."""
    from cclm_core.steps.base import base as run

    with reporting("base", report_path()) as report:
        run(Params.load(params), encoded, checkpoints, out, report, curve)


@stage.command()
@runs_own_code
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
@runs_own_code
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
@runs_own_code
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
@runs_own_code
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
@runs_own_code
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
@runs_own_code
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
@runs_own_code
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
