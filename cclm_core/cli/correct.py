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
    """Prints corrections, in color on a terminal, or as JSON. The text `-` reads standard input, line by line.

    Args:
        text: the text to correct.
        base: folder of the base.
        component: folder of a component trained on the objective `denoise`.
        num_alternatives: number of alternative readings to print, 0 to 100, with their odds against the correction.
        min_confidence: smallest probability of a change, from 0 to 1.
        as_json: print one JSON object per text.

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
            print(printable_json(_to_json(corrected)))
            continue
        if console.is_terminal:
            console.print(marked(line, corrected))
        else:
            print(corrected.text)
        for alternative, odds in corrected.alternatives:
            print(f"  odds {odds:6.3f}  {printed(alternative)}")


def marked(text: str, corrected: Corrected) -> Text:
    """The original text with deletions in red and struck through, and insertions in green."""
    output, position = Text(), 0
    for change in corrected.changes:
        output.append(printable(text[position : change.start]))
        output.append(printable(text[change.start : change.end]), style="strike red")
        output.append(printable(change.replacement), style="bold green")
        position = change.end
    output.append(printable(text[position:]))
    return output


def _to_json(corrected: Corrected) -> dict[str, object]:
    return {
        "text": corrected.text,
        "changes": [change._asdict() for change in corrected.changes],
        "alternatives": [{"text": text, "odds": odds} for text, odds in corrected.alternatives],
    }
