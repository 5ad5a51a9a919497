"""The output of `cclm correct`."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cclm_core.applications.corrector import Corrected, Corrector


def show_corrections(
    text: str, base: Path, component: Path, num_alternatives: int, min_confidence: float, as_json: bool
) -> None:
    """Prints the correction of a text: in color on a terminal, or as JSON.

    Args:
        text: the text; `-` reads standard input and corrects each line.
        base, component: the folders of the base and of the component trained on `denoise`.
        num_alternatives: maximum number of alternatives to print per text.
        min_confidence: minimum probability of a change, 0 to 1.
        as_json: print one JSON object per text.

    Raises:
        ArtifactError: the base or the component is missing or damaged, or the component was trained on another
            objective.
        CompositionError: the component was trained on another base.
        DataError: a text contains a lone surrogate.
    """
    corrector = Corrector.load(base, component)
    console = Console(highlight=False, soft_wrap=True)
    for line in (line.rstrip("\n") for line in sys.stdin) if text == "-" else (text,):
        corrected = corrector.correct(line, num_alternatives, min_confidence)
        if as_json:
            print(json.dumps(_json_of(corrected), ensure_ascii=False))
            continue
        if console.is_terminal:
            console.print(colored(line, corrected))
        else:
            print(corrected.text)
        for reading, probability in corrected.alternatives:
            print(f"  {probability:6.3f}  {reading}")


def colored(text: str, corrected: Corrected) -> Text:
    """The original text with deletions in red, struck through, and insertions in green."""
    result, position = Text(), 0
    for change in corrected.changes:
        result.append(text[position : change.start])
        result.append(text[change.start : change.end], style="strike red")
        result.append(change.replacement, style="bold green")
        position = change.end
    result.append(text[position:])
    return result


def _json_of(corrected: Corrected) -> dict[str, object]:
    return {
        "text": corrected.text,
        "changes": [change._asdict() for change in corrected.changes],
        "alternatives": [{"text": text, "probability": probability} for text, probability in corrected.alternatives],
    }
