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
    """Prints the correction of a text, or of each line of standard input: in color on a terminal, or as JSON.

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
            print(json.dumps(_described(corrected), ensure_ascii=False))
            continue
        if console.is_terminal:
            console.print(marked(line, corrected))
        else:
            print(corrected.text)
        for reading, probability in corrected.alternatives:
            print(f"  {probability:6.3f}  {reading}")


def marked(text: str, corrected: Corrected) -> Text:
    """The original with deletions struck through in red, and insertions in green."""
    shown, read = Text(), 0
    for change in corrected.changes:
        shown.append(text[read : change.start])
        shown.append(text[change.start : change.end], style="strike red")
        shown.append(change.replacement, style="bold green")
        read = change.end
    shown.append(text[read:])
    return shown


def _described(corrected: Corrected) -> dict[str, object]:
    return {
        "text": corrected.text,
        "changes": [change._asdict() for change in corrected.changes],
        "alternatives": [{"text": text, "probability": probability} for text, probability in corrected.alternatives],
    }
