"""`cclm correct`: what it prints."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cclm_core.applications.correction.corrector import Corrected, Corrector


def show_corrections(
    text: str, base: Path, component: Path, num_alternatives: int, min_confidence: float, as_json: bool
) -> None:
    """Prints the correction of a text, or of each line of standard input: in colour on a terminal, or as JSON.

    Raises:
        ArtifactError: the base or the component is missing or damaged.
        CompositionError: they do not belong together, or the component does not denoise.
        DataError: a text cannot be read.
    """
    corrector = Corrector.load(base, component)
    console = Console(highlight=False, soft_wrap=True)
    for line in (one.rstrip("\n") for one in sys.stdin) if text == "-" else (text,):
        found = corrector.correct(line, num_alternatives, min_confidence)
        if as_json:
            print(json.dumps(_described(found), ensure_ascii=False))
            continue
        if console.is_terminal:
            console.print(marked(line, found))
        else:
            print(found.text)
        for reading, probability in found.alternatives:
            print(f"  {probability:6.3f}  {reading}")


def marked(text: str, found: Corrected) -> Text:
    """The original with what was taken out struck through in red, and what was put in green."""
    shown, read = Text(), 0
    for change in found.changes:
        shown.append(text[read : change.start])
        shown.append(text[change.start : change.end], style="strike red")
        shown.append(change.replacement, style="bold green")
        read = change.end
    shown.append(text[read:])
    return shown


def _described(found: Corrected) -> dict[str, object]:
    return {
        "text": found.text,
        "changes": [change._asdict() for change in found.changes],
        "alternatives": [{"text": text, "probability": probability} for text, probability in found.alternatives],
    }
