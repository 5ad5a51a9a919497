"""The command line of the library: tools for people, and the pipeline stages of `cclm_core.cli.stages`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from cclm_core.cli.conventions import (
    CONTEXT,
    DETAILS,
    EPILOG,
    MODELS,
    TEXT,
    GroupedCommands,
    examples,
    run_command_line,
    version_option,
)
from cclm_core.cli.own_code import runs_own_code
from cclm_core.cli.own_data import app as own_data
from cclm_core.cli.settings import app as settings
from cclm_core.cli.shelf import app as shelf
from cclm_core.cli.stages import stage

app = typer.Typer(
    help="Composable character-level language models.",
    cls=GroupedCommands,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    callback=version_option,
)
commands = typer.Typer()
"""The commands of the library. `cclm` has them next to those of the pipeline."""
app.add_typer(commands)
commands.add_typer(own_data)
commands.add_typer(shelf, name="shelf", rich_help_panel=MODELS)
commands.add_typer(settings, name="config", rich_help_panel=DETAILS)
commands.add_typer(stage, name="stage", rich_help_panel=DETAILS)

Base = Annotated[Path, typer.Option(help="Folder of the base: an embedder, output of `base`, or a composition.")]


@commands.command(
    rich_help_panel=TEXT,
    epilog=examples('cclm correct "teh parcle never came" --alternatives 2', "cclm correct - --json < messages.txt"),
)
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


@commands.command(
    rich_help_panel=MODELS, epilog=examples("cclm fork models/components/entities models/components/own_entities")
)
@runs_own_code
def fork(
    component: Annotated[
        Path, typer.Argument(help="Folder of a component that shares the base, e.g. models/components/entities.")
    ],
    out: Annotated[Path, typer.Argument(help="Output folder for the new component. It is replaced.")],
    base: Base = Path("models/base"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy a component together with its base, so that both can be trained without affecting other components.

    The new component has the same output, name and head.
    It can replace the old one in any composition with the same vocabulary.
    The old component and the base do not change.
    """
    from cclm_core.steps.fork import fork as run

    report = run(component, base, out)
    print(json.dumps({"folder": str(out), "message": report}) if as_json else report)


@commands.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "cclm export models/tasks/tickets exported",
        "cclm export models/compositions/full exported --results results/full --license Apache-2.0 --remote-code",
    ),
)
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


@commands.command(
    "noise",
    rich_help_panel=TEXT,
    epilog=examples(
        "cclm noise",
        'cclm noise "a text" --recipe "{rate: 0.1, kinds: [swap, ocr]}" --times 3',
        "cclm noise --every-kind",
    ),
)
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
        bool,
        typer.Option(
            "--json", help="Print one JSON object per version, with the edit map; with --every-kind, one list."
        ),
    ] = False,
) -> None:
    """Add noise to a text. On a terminal, removed characters are red and inserted ones green."""
    from cclm_core.cli import noise as command

    if every_kind:
        command.show_kinds(text, seed, misspellings, as_json)
    else:
        command.show_noise(text, recipe, misspellings, seed, times, as_json)


@commands.command(
    rich_help_panel=TEXT, epilog=examples('cclm generate "My order" --max-characters 100 --times 3 --temperature 0.5')
)
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
    """Runs the command line; see `run_command_line`."""
    # Waiting threads must not spin, because spinning takes the cores from other processes: training on two threads next
    # to another job took 71 s with spinning and 28 s without. Set this before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run_command_line(app)


if __name__ == "__main__":
    main()
