"""Confused labels and wrong examples."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from rapidfuzz.distance import Levenshtein

from cclm_core.report.charts import cells
from cclm_core.report.published import Model
from cclm_core.report.tables import Cell, Table, number_cell, share_cell, text_cell
from cclm_core.runtime.reporting import format_number

MAX_LABELS = 150  # in the square of cells
MAX_PAIRS = 20
MAX_EXAMPLES = 25
MAX_TEXT = 400  # characters of an example
_MAX_ROWS = 20_000  # lines of predictions.jsonl


@dataclass
class Mistakes:
    """The mistakes of one model.

    Attributes:
        name: of the model.
        pairs: confused labels, the most frequent first; None without labels.
        cells: the square of true and predicted labels.
        note: about the square.
        examples: wrong predictions; None without any.
    """

    name: str
    pairs: Table | None = None
    cells: Markup = field(default_factory=Markup)
    note: str = ""
    examples: Table | None = None


def mistakes(model: Model) -> Mistakes:
    """The mistakes of a model, from its confusion.csv and predictions.jsonl."""
    result = Mistakes(model.name)
    rows = model.results.table("confusion.csv")
    pairs = [(row["true"], row["predicted"]) for row in rows]
    if pairs:
        result.pairs = _pairs(pairs)
        result.cells, result.note = _cells(model.name, pairs)
    result.examples = _examples(model.results.lines("predictions.jsonl", _MAX_ROWS))
    return result


def similar_order(labels: Sequence[str], counts: Mapping[tuple[str, str], int]) -> list[str]:
    """The labels in an order in which labels that are confused with each other are next to each other.

    Average linkage of the shares of confused texts, with the optimal order of leaves.

    Source: Bar-Joseph et al. 2001, "Fast optimal leaf ordering for hierarchical clustering".
    """
    if len(labels) < 3:
        return list(labels)
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    index = {label: number for number, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)))
    for (true, predicted), number in counts.items():
        matrix[index[true], index[predicted]] += number
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    closeness = shares + shares.T
    np.fill_diagonal(closeness, 0)
    distances = 2 - closeness
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [labels[number] for number in leaves_list(tree)]


def marked_changes(clean: str, noisy: str) -> Markup:
    """The noisy text, with what differs from the clean one marked.

    >>> marked_changes("my card", "my cadr!")
    Markup('my ca<ins>d</ins>r<del>d</del><ins>!</ins>')
    """
    parts = []
    for change in Levenshtein.opcodes(clean, noisy):
        removed, added = clean[change.src_start : change.src_end], noisy[change.dest_start : change.dest_end]
        if change.tag == "equal":
            parts.append(escape(added))
            continue
        parts += [Markup("<del>{}</del>").format(removed)] if removed else []
        parts += [Markup("<ins>{}</ins>").format(added)] if added else []
    return Markup("").join(parts)


Span = tuple[int, int, str]


def marked_spans(text: str, gold: Iterable[Span], predicted: Iterable[Span]) -> Markup:
    """A text in which spans are marked: right ones, missed ones, and wrong ones.

    >>> marked_spans("Anna met Bo", [(0, 4, "PER")], [(9, 11, "PER")])
    Markup('<mark class="missed" title="missed: PER">Anna</mark> met <mark class="false" title="wrong: PER">Bo</mark>')
    """
    true, own = set(gold), set(predicted)
    kinds = [(span, "right") for span in true & own]
    kinds += [(span, "missed") for span in true - own] + [(span, "false") for span in own - true]
    bounds = sorted({0, len(text), *(bound for (start, end, _), _ in kinds for bound in (start, end))})
    parts = []
    for start, end in pairwise(bounds):
        piece = text[start:end]
        covering = sorted((kind, span[2]) for span, kind in kinds if span[0] <= start and end <= span[1])
        if not covering:
            parts.append(escape(piece))
            continue
        order = ("missed", "false", "right")
        kind = next(name for name in order if any(name == entry for entry, _ in covering))
        words = {"missed": "missed", "false": "wrong", "right": "right"}
        tip = ", ".join(f"{words[entry]}: {label}" for entry, label in covering)
        parts.append(Markup('<mark class="{}" title="{}">{}</mark>').format(kind, tip, piece))
    return Markup("").join(parts)


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    totals = Counter(true for true, _ in pairs)
    wrong = Counter(pair for pair in pairs if pair[0] != pair[1])
    top = sorted(wrong.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [
        [text_cell(true), text_cell(predicted), share_cell(number, totals[true]), number_cell(totals[true])]
        for (true, predicted), number in top[:MAX_PAIRS]
    ]
    more = f" The {MAX_PAIRS} most frequent of {len(top):,} confusions." if len(top) > MAX_PAIRS else ""
    caption = f"{wrong.total():,} of {len(pairs):,} texts have a wrong label.{more}"
    return Table(
        ("true label", "predicted label", "texts (share of the true label)", "texts of the true label"), rows, caption
    )


def _cells(name: str, pairs: Sequence[tuple[str, str]]) -> tuple[Markup, str]:
    labels = sorted({label for pair in pairs for label in pair})
    counts = Counter(pairs)
    note = f"{len(labels):,} labels"
    if len(labels) > MAX_LABELS:
        wrong: Counter[str] = Counter()
        for (true, predicted), number in counts.items():
            if true != predicted:
                wrong.update({true: number, predicted: number})
        kept = sorted(wrong, key=lambda label: (-wrong[label], label))[:MAX_LABELS]
        note = f"The {len(kept):,} most confused of {len(labels):,} labels"
        labels = sorted(kept)
        counts = Counter({pair: number for pair, number in counts.items() if {*pair} <= {*labels}})
    order = similar_order(labels, counts)
    place = {label: number for number, label in enumerate(order)}
    numbered = {(place[true], place[predicted]): number for (true, predicted), number in counts.items()}
    return cells(f"confused labels of {name}", order, numbered), note


def _examples(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Wrong predictions: those that the model is most certain of, or with the most wrong spans, first."""
    clean = {str(row["id"]): str(row["text"]) for row in rows if row.get("set", "clean") == "clean"}
    shown = []
    for number, row in enumerate(rows):
        gold, predicted, spans = _truth(row)
        if gold == predicted and spans[0] == spans[1]:
            continue
        certainty = float(row.get("predicted", {}).get("score") or 0)
        num_wrong = len(spans[0] ^ spans[1])
        name = str(row.get("set", "clean"))
        cells_of_row = [
            Cell(_marked(row, spans, clean.get(str(row["id"]), "") if name != "clean" else ""), is_long=True),
            text_cell(gold if gold is not None else f"{len(spans[0])} entities"),
            text_cell(predicted if predicted is not None else f"{len(spans[1])} entities"),
            text_cell(name.replace("_", " ")),
            *([number_cell(certainty)] if certainty else []),
        ]
        shown.append(((-certainty, -num_wrong, number), cells_of_row))
    shown.sort(key=lambda entry: entry[0])
    if not shown:
        return None
    caption = (
        f"{len(shown):,} of {len(rows):,} stored predictions are wrong"
        f"{f'; the {MAX_EXAMPLES} most certain ones are shown' if len(shown) > MAX_EXAMPLES else ''}."
    )
    kept = [row for _, row in shown[:MAX_EXAMPLES]]
    columns = ("text", "true", "predicted", "test set", "certainty")
    return Table(columns[: max(map(len, kept))], kept, caption)


def _truth(row: Mapping[str, Any]) -> tuple[str | None, str | None, tuple[set[Span], set[Span]]]:
    """The true and the predicted answer, and the true and the predicted spans of a row of predictions.jsonl."""
    if "gold" in row:  # of a task
        gold, predicted = row["gold"], row["predicted"]
        spans = tuple(
            {(s["start"], s["end"], s["label"]) for s in side.get("entities", [])} for side in (gold, predicted)
        )
        return _answer(gold), _answer(predicted), (spans[0], spans[1])
    spans = tuple({(s[0], s[1], s[2]) for s in row.get(key, [])} for key in ("entities", "predicted_entities"))
    label, answer = row.get("label"), row.get("predicted_label")
    if answer is None:  # the document was too short for the labels probe
        label = None
    return label, answer, (spans[0], spans[1])


def _answer(side: Mapping[str, Any]) -> str | None:
    if side.get("label") is not None:
        return str(side["label"])
    if side.get("value") is not None:
        return format_number(float(side["value"]))
    return ", ".join(side["labels"]) if "labels" in side else None


def _marked(row: Mapping[str, Any], spans: tuple[set[Span], set[Span]], clean: str) -> Markup:
    text = str(row["text"])
    if spans[0] or spans[1]:
        shortest = max((end for side in spans for _, end, _ in side), default=0)
        limit = max(MAX_TEXT, shortest)
        marked = marked_spans(text[:limit], *spans)
    else:
        limit = MAX_TEXT
        marked = marked_changes(clean[:limit], text[:limit]) if clean else escape(text[:limit])
    second = Markup("<br>").join([marked, escape(str(row["second"])[:limit])]) if row.get("second") else marked
    return second + ("…" if len(text) > limit else "")
