"""`cclm generate`: what it prints."""

import json
import sys
from pathlib import Path

from cclm_core.applications.generation import Sampling, write
from cclm_core.applications.language_model import LanguageModel

_BETWEEN = "-" * 20


def show_generated(
    prompt: str, base: Path, component: Path, sampling: Sampling, times: int, context: int | None, as_json: bool
) -> None:
    """Prints a prompt and its continuation, character by character, or as JSON when it is whole; `times` times.

    Of standard input, read for the prompt `-`, the last line break is left out, as `echo` puts one there.

    Raises:
        ArtifactError: the base or the component is missing or damaged, or of another objective.
        CompositionError: they do not belong together.
        DataError: the prompt cannot be read.
    """
    text = sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt
    model = LanguageModel.load(component, base, context)
    for number in range(times):
        chosen = sampling.model_copy(update={"seed": sampling.seed + number})
        characters = write(model, text, chosen)
        if as_json:
            written = list(characters)
            ended = len(written) < sampling.max_characters
            said = {"prompt": text, "written": "".join(written), "ended": ended, "seed": chosen.seed}
            print(json.dumps(said, ensure_ascii=False), flush=True)
            continue
        if number:
            print(_BETWEEN)
        print(text, end="", flush=True)
        for character in characters:
            print(character, end="", flush=True)
        print()
