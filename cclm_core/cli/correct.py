"""The output of `cclm correct`."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from cclm_core.applications.corrector import Corrected, Corrector
from cclm_core.cli.stdin import stdin_lines
from cclm_core.runtime.terminal import printable, printable_json, printed


def show_corrections(
    text: str, base: Path, component: Path, num_alternatives: int, min_confidence: float, as_json: bool
) -> None:
    """Prints the correction of a text, or of each line of standard input: in color on a terminal, or as JSON.

    Raises:
        ArtifactError: the base or the component is missing or damaged.
        CompositionError: the component was trained on another base.
        DataError: a text contains a lone surrogate, or standard input is not UTF-8.
    """
    corrector = Corrector.load(base, component)
    console = Console(highlight=False, soft_wrap=True)
    for line in stdin_lines() if text == "-" else (text,):
        corrected = corrector.correct(line, num_alternatives, min_confidence)
        if as_json:
            print(printable_json(_described(corrected)))
            continue
        if console.is_terminal:
            console.print(marked(line, corrected))
        else:
            print(corrected.text)
        for reading, odds in corrected.alternatives:
            print(f"  odds {odds:6.3f}  {printed(reading)}")


def marked(text: str, corrected: Corrected) -> Text:
    """The original with deletions struck through in red, and insertions in green."""
    shown, read = Text(), 0
    for change in corrected.changes:
        shown.append(printable(text[read : change.start]))
        shown.append(printable(text[change.start : change.end]), style="strike red")
        shown.append(printable(change.replacement), style="bold green")
        read = change.end
    shown.append(printable(text[read:]))
    return shown


def _described(corrected: Corrected) -> dict[str, object]:
    return {
        "text": corrected.text,
        "changes": [change._asdict() for change in corrected.changes],
        "alternatives": [{"text": text, "odds": odds} for text, odds in corrected.alternatives],
    }
