"""The output of `cclm generate`."""

from pathlib import Path

from cclm_core.applications.generation import Sampling, generate
from cclm_core.applications.language_model import LanguageModel
from cclm_core.cli.stdin import read_stdin
from cclm_core.runtime.terminal import printable_json, printed

_SEPARATOR = "-" * 20


def show_generated(
    prompt: str, base: Path, component: Path, sampling: Sampling, times: int, context: int | None, as_json: bool
) -> None:
    """Prints a prompt and its continuation, character by character, or as JSON.

    Args:
        prompt: `-` reads standard input without its last line break, since `echo` adds one.
        base: folder of the base.
        component: folder of a component trained on the objective `next_characters`.
        sampling: settings of the first text; each further text uses the next seed.
        times: number of texts.
        context: number of ids that the model reads; None for its training window.
        as_json: print one JSON object per text.

    Raises:
        ArtifactError: the base or the component is missing or damaged, or of another objective.
        CompositionError: the component was trained on another base.
        DataError: the prompt contains a lone surrogate, or standard input is not UTF-8.
    """
    text = read_stdin().removesuffix("\n") if prompt == "-" else prompt
    model = LanguageModel.load(component, base, context)
    for number in range(times):
        current = sampling.model_copy(update={"seed": sampling.seed + number})
        characters = generate(model, text, current)
        if as_json:
            written = list(characters)
            ended = len(written) < sampling.max_characters
            result = {"prompt": text, "written": "".join(written), "ended": ended, "seed": current.seed}
            print(printable_json(result), flush=True)
            continue
        if number:
            print(_SEPARATOR)
        print(printed(text), end="", flush=True)
        for character in characters:
            print(printed(character), end="", flush=True)
        print()
