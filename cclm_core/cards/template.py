"""The template of model cards, in Markdown."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cclm_core.cards.facts import Facts, Score, facts_of
from cclm_core.runtime.artifacts import write_text
from cclm_core.runtime.terminal import printable

README = "README.md"
"""The file with the model card of a folder."""

_HUB = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # identifiers of licenses on model hubs


def render(facts: Facts, *, front_matter: bool = False) -> str:
    """A model card. Sections without content are left out.

    Args:
        facts: the content of the card.
        front_matter: whether it begins with the YAML block that model hubs read.
    """
    blocks = [_front_matter(facts)] if front_matter else []
    blocks += [f"# {plain(facts.name)}", plain(facts.description)]
    rows = [("type", facts.kind), ("license", facts.license or "not stated"), *facts.about.items()]
    blocks += [table(("", ""), [(name, value) for name, value in rows if value])]
    blocks += _section("Use", f"```python\n{facts.usage.strip()}\n```" if facts.usage else "")
    blocks += _section("Scores", _scores(facts.scores))
    blocks += _section("Under noise", _curve(facts))
    blocks += _section("Limits", "\n".join(f"* {plain(limit)}" for limit in facts.limits))
    blocks += _section("Metrics", table(("metric", "value"), flat(facts.metrics)))
    blocks += _section("Data and origin", table(("SHA-256 of", ""), facts.digests.items()))
    blocks += _section(
        "Files", table(("file", "bytes", "SHA-256"), [(path, f"{size:,}", sha) for path, size, sha in facts.files])
    )
    blocks += _section("Configuration", _json(facts.configuration))
    return "\n\n".join(filter(None, blocks)) + "\n"


def write_card(folder: Path, kind: str, **further: Any) -> None:
    """Writes `README.md` into a folder that is being published, from its card.json and metrics.json.

    Args:
        folder: the folder.
        kind: what it contains.
        further: attributes of `Facts`; see `facts_of`.
    """
    write_text(folder / README, render(facts_of(folder, kind, **further)))


def plain(text: str) -> str:
    """Text that cannot leave its line or cell, or become markup.

    >>> plain("a|b\\n# c")
    'a\\\\|b # c'
    """
    return re.sub(r"[\\|<>`\[\]]", r"\\\g<0>", " ".join(printable(text).split()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; an empty string without rows."""
    lines = [header, ["---"] * len(header), *rows]
    if len(lines) == 2:
        return ""
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """One row per value of a mapping; names of nested values are joined by dots."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(values.items()):
        nested = isinstance(value, dict)
        rows += flat(value, f"{prefix}{name}.") if nested else [(prefix + name, json.dumps(value, ensure_ascii=False))]
    return rows


def _front_matter(facts: Facts) -> str:
    license = facts.license.lower() if _HUB.fullmatch(facts.license.lower()) else ""
    lines = [f"license: {license or ('other' if facts.license else 'unknown')}", "library_name: transformers"]
    if facts.license and not license:
        lines.append(f"license_name: {json.dumps(printable(facts.license))}")
    if facts.pipeline:
        lines.append(f"pipeline_tag: {facts.pipeline}")
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in facts.tags)] if facts.tags else []
    return "\n".join(["---", *lines, "---"])


def _section(title: str, content: str) -> list[str]:
    return [f"## {title}", content] if content else []


def _scores(scores: Any) -> str:
    rows = [_score(name, score) for name, score in scores.items()]
    header = ("score", "value", "interval", "better", "documents", "baselines")
    used = [index for index in range(len(header)) if index < 2 or any(row[index] for row in rows)]
    return table([header[index] for index in used], [[row[index] for index in used] for row in rows])


def _score(name: str, score: Score) -> tuple[str, ...]:
    interval = "" if score.interval is None else f"{_number(score.interval[0])} to {_number(score.interval[1])}"
    documents = "" if score.documents is None else f"{score.documents:,}"
    baselines = ", ".join(f"{baseline} {_number(value)}" for baseline, value in score.baselines.items())
    return name, _number(score.value), interval, score.better or "", documents, baselines


def _curve(facts: Facts) -> str:
    """The noise curve of the metrics with scores; of all metrics if it has none of them."""
    names = list(facts.curve[0])[1:] if facts.curve else []
    shown = [name for name in names if name in facts.scores] or names
    rows = [[row["rate"], *(row[name] or "" for name in shown)] for row in facts.curve]
    return table(["noise rate", *shown], rows)


def _json(configuration: Any) -> str:
    if not configuration:
        return ""
    return f"```json\n{printable(json.dumps(configuration, indent=2, sort_keys=True, ensure_ascii=False))}\n```"


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
