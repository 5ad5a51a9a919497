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
    """Prints corrections, in color on a terminal, or as JSON. The text `-` reads standard input, line by line.

    Args:
        text: the text to correct.
        base: folder of the base.
        component: folder of a component trained on the objective `denoise`.
        num_alternatives: number of alternative readings to print, with their probability relative to the correction.
        min_confidence: smallest probability of a change, from 0 to 1.
        as_json: print one JSON object per text.

    Raises:
        ArtifactError: the base or the component is missing or damaged.
        CompositionError: the component was trained on another base.
        DataError: a text contains a lone surrogate.
    """
    corrector = Corrector.load(base, component)
    console = Console(highlight=False, soft_wrap=True)
    for line in (line.rstrip("\n") for line in sys.stdin) if text == "-" else (text,):
        corrected = corrector.correct(line, num_alternatives, min_confidence)
        if as_json:
            print(json.dumps(_to_json(corrected), ensure_ascii=False))
            continue
        if console.is_terminal:
            console.print(marked(line, corrected))
        else:
            print(corrected.text)
        for alternative, probability in corrected.alternatives:
            print(f"  {probability:6.3f}  {alternative}")


def marked(text: str, corrected: Corrected) -> Text:
    """The original text with deletions in red and struck through, and insertions in green."""
    output, position = Text(), 0
    for change in corrected.changes:
        output.append(text[position : change.start])
        output.append(text[change.start : change.end], style="strike red")
        output.append(change.replacement, style="bold green")
        position = change.end
    output.append(text[position:])
    return output


def _to_json(corrected: Corrected) -> dict[str, object]:
    return {
        "text": corrected.text,
        "changes": [change._asdict() for change in corrected.changes],
        "alternatives": [{"text": text, "probability": probability} for text, probability in corrected.alternatives],
    }
