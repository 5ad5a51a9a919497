"""Which composition and which task is best, on what and by how much, and what to do next."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from cclm_core.evaluation.metrics import Metric
from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report.differences import MetricDifference, differences
from cclm_core.report.published import Collection, Model, Published
from cclm_core.report.scores import contributions, is_ahead, main_metrics, noise_curves, noised_metrics
from cclm_core.report.tables import Cell, Table, readable, text_cell
from cclm_core.runtime.reporting import format_number

FEW_TEXTS = 100  # figures on fewer are uncertain
_STILL_FALLING = 0.02  # of the value, in the last fifth of the steps
_MUCH_FALLBACK = 0.01
_MUCH_REJECTED = 0.05
_FRAGILE = 0.15  # of the clean value, lost at the largest noise rate
_MAX_ADVICE = 5


@dataclass(frozen=True)
class Comparison:
    """Two models on their main metrics; `second` minus `first`.

    Attributes:
        first, second: the models.
        rows: a row per main metric.
        noised: a row per main metric and noise rate.
    """

    first: Model
    second: Model
    rows: list[MetricDifference]
    noised: list[MetricDifference]


@dataclass
class Ranking:
    """Models that are measured on the same texts, the best one first.

    Attributes:
        models: the models.
        best: the best one.
        answer: which is best, on what and by how much, in a few sentences.
        against: how the best differs from each other model.
        table: the same as a table.
    """

    models: list[Model]
    best: Model
    answer: list[str] = field(default_factory=list)
    against: list[Comparison] = field(default_factory=list)
    table: Table | None = None


def rank(models: Sequence[Model], rules: PromotionConfig) -> Ranking | None:
    """Ranks models by the number of clear wins on their main metrics; of equals, by those under noise, then by size.

    A difference is clear if its interval does not contain 0 and it is larger than the margin of the metric. Controls
    with untrained components are shown but cannot be the best, unless there is nothing else.

    Args:
        models: measured on the same texts.
        rules: the margins.

    Returns:
        The ranking; None without models.
    """
    if not models:
        return None
    wins, noised = Counter[str](), Counter[str]()
    pairs = {}
    for first, second in combinations(models, 2):
        pair = pairs[first.name, second.name] = _compared(first, second)
        for counts, rows in ((wins, pair.rows), (noised, pair.noised)):
            for winner in filter(None, (_clear_winner(row, rules) for row in rows)):
                better, worse = (first, second) if winner == "first" else (second, first)
                counts.update({better.name: 1, worse.name: -1})
    order = sorted(
        models,
        key=lambda model: (model.is_untrained, -wins[model.name], -noised[model.name], model.parameters, model.name),
    )
    ranking = Ranking(order, order[0])
    for other in order[1:]:
        pair = pairs.get((other.name, ranking.best.name)) or _turned(pairs[ranking.best.name, other.name])
        ranking.against.append(pair)
    ranking.answer = [*_headline(ranking, rules), *_baselines(ranking.best)]
    ranking.table = _difference_table(ranking, rules)
    return ranking


def advice(
    collection: Collection,
    compositions: Ranking | None,
    tasks: Sequence[Ranking],
    rules: PromotionConfig,
    fallback_share: float,
) -> list[str]:
    """What to do next, the most useful first.

    Args:
        collection: the published folders.
        compositions, tasks: the rankings.
        rules: the margins.
        fallback_share: the largest share of a split's characters that are encoded as bytes.
    """
    rankings = [*([compositions] if compositions else []), *tasks]
    steps = [*_more_data(rankings), *_rejected(collection), *_not_learned(compositions, rules)]
    steps += [*_beaten(compositions, tasks), *_train_longer(collection), *_useless(compositions), *_fragile(rankings)]
    if fallback_share > _MUCH_FALLBACK:
        steps.append(
            f"Give the alphabet more characters: {fallback_share:.1%} are encoded as bytes. Lower vocabulary.min_count "
            "or raise vocabulary.max_characters."
        )
    if not steps and rankings:
        steps.append(
            "Nothing in these figures is a warning. Make the best version the champion with `cclm promote`, or try a "
            "change and compare it with `cclm compare`."
        )
    return steps[:_MAX_ADVICE]


def summary(model: Model) -> list[str]:
    """The main figures of one model, and how it differs from the baselines, as sentences."""
    return [_figures(model), *_baselines(model)]


def _compared(first: Model, second: Model) -> Comparison:
    metrics = first.results.metrics, second.results.metrics
    main, noised = (set(select(metrics[0])) & set(select(metrics[1])) for select in (main_metrics, noised_metrics))
    rows, _ = differences(*metrics, first.results.folder, second.results.folder)
    return Comparison(
        first, second, [row for row in rows if row.metric in main], [row for row in rows if row.metric in noised]
    )


def _clear_winner(row: MetricDifference, rules: PromotionConfig) -> str:
    rule = rules.metrics.get(row.metric)
    margin = rules.margin if rule is None or rule.margin is None else rule.margin
    return row.winner if abs(row.difference) > margin else ""


def _turned(pair: Comparison) -> Comparison:
    """The same comparison with the models exchanged."""
    winners = {"first": "second", "second": "first", "": ""}

    def turned(row: MetricDifference) -> MetricDifference:
        interval = None if row.interval is None else (0.0 - row.interval[1], 0.0 - row.interval[0])
        difference = 0.0 - row.difference  # never -0.0
        return replace(
            row,
            first=row.second,
            second=row.first,
            difference=difference,
            interval=interval,
            winner=winners[row.winner],
        )

    return Comparison(pair.second, pair.first, [*map(turned, pair.rows)], [*map(turned, pair.noised)])


def _headline(ranking: Ranking, rules: PromotionConfig) -> Iterator[str]:
    best = ranking.best
    if not ranking.against:
        yield f"{best.name} is the only one, so there is nothing to compare it with. {_figures(best)}"
        return
    kind = "tasks" if best.is_task else "compositions"
    unclear = not any(_clear_winner(row, rules) for pair in ranking.against for row in _deciding(pair, rules))
    if unclear:
        yield f"No clear difference between the {len(ranking.models)} {kind}; {best.name} is the smallest."
    else:
        yield f"{best.name} is the best of {len(ranking.models)} {kind}. {_figures(best)}"
    for pair in ranking.against:
        yield _against(pair, rules)


def _figures(model: Model) -> str:
    values = [f"{readable(name)} {_value(metric)}" for name, metric in main_metrics(model.results.metrics).items()]
    return f"It has {', '.join(values)}, with {format_number(model.parameters)} parameters."


def _value(metric: Metric) -> str:
    if metric.interval is None:
        return format_number(metric.value)
    return f"{format_number(metric.value)} ({' to '.join(map(format_number, metric.interval))})"


def _against(pair: Comparison, rules: PromotionConfig) -> str:
    """One sentence about how the best model differs from another one."""
    clear = [row for row in _deciding(pair, rules) if _clear_winner(row, rules)]
    better = [f"{readable(row.metric)} by {_by(row)}" for row in clear if _clear_winner(row, rules) == "second"]
    worse = [f"{readable(row.metric)} by {_by(row)}" for row in clear if _clear_winner(row, rules) == "first"]
    same = sum(not _clear_winner(row, rules) for row in pair.rows)
    parts = [f"better on {_listed(better)}"] if better else []
    parts += [f"worse on {_listed(worse)}"] if worse else []
    if same:
        where = f"{same} of {len(pair.rows)} metrics" if len(pair.rows) > 1 else readable(pair.rows[0].metric)
        parts.append(f"without a clear difference on {where}")
    size = pair.second.parameters / pair.first.parameters if pair.first.parameters else 1.0
    cost = f"at {size:.2g} times its size" if abs(size - 1) > 0.01 else "at the same size"
    return f"Against {pair.first.name}: {_listed(parts) or 'no metric in common'}, {cost}."


def _deciding(pair: Comparison, rules: PromotionConfig) -> list[MetricDifference]:
    """The rows of the main metrics, and those under noise if no main metric tells the models apart."""
    return pair.rows if any(_clear_winner(row, rules) for row in pair.rows) else [*pair.rows, *pair.noised]


def _by(row: MetricDifference) -> str:
    gain = row.gain
    text = format_number(abs(row.difference))
    if gain is None:
        return text
    low, high = sorted((abs(gain[1]), abs(gain[2])))
    return f"{text} ({format_number(low)} to {format_number(high)})"


def _listed(parts: Sequence[str]) -> str:
    """
    >>> _listed(["a"]), _listed(["a", "b"]), _listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _baselines(model: Model) -> Iterator[str]:
    """How the model differs from the main baseline of each metric."""
    groups: dict[str, list[str]] = {"clearly better than": [], "not clearly different from": [], "worse than": []}
    for name, metric in main_metrics(model.results.metrics).items():
        for entry in metric.baselines[:1]:
            key = "worse than" if is_ahead(entry.value, metric) else "not clearly different from"
            if _is_behind(entry.value, metric):
                key = "clearly better than"
            groups[key].append(f"{entry.name} on {readable(name)} ({format_number(entry.value)})")
    parts = [f"{words} {_listed(entries)}" for words, entries in groups.items() if entries]
    if parts:
        yield f"Simple baselines: {model.name} is {_listed(parts)}."


def _is_beaten(model: Model) -> bool:
    """Whether a baseline is clearly ahead on a main metric."""
    metrics = main_metrics(model.results.metrics).values()
    return any(is_ahead(entry.value, metric) for metric in metrics for entry in metric.baselines)


def _is_behind(value: float, metric: Metric) -> bool:
    """Whether a baseline is outside the interval of a metric, on the worse side."""
    low, high = metric.interval or (float(metric.value), float(metric.value))
    return value < low if metric.better == "higher" else value > high


def _difference_table(ranking: Ranking, rules: PromotionConfig) -> Table | None:
    rows = []
    for pair in ranking.against:
        for row in _deciding(pair, rules):
            interval = "" if row.interval is None else f"{row.interval[0]:+.3g} to {row.interval[1]:+.3g}"
            winner = {"first": pair.first.name, "second": pair.second.name, "": "no clear difference"}
            rows.append(
                [
                    text_cell(pair.first.name),
                    text_cell(readable(row.metric)),
                    Cell(f"{row.difference:+.3g}", row.difference),
                    text_cell(interval),
                    text_cell(row.method),
                    text_cell(winner[_clear_winner(row, rules)]),
                ]
            )
    columns = ("against", "metric", f"{ranking.best.name} minus the other", "interval", "texts", "better")
    return Table(columns, rows) if rows else None


def _more_data(rankings: Sequence[Ranking]) -> Iterator[str]:
    few = []
    for ranking in rankings:
        metrics = main_metrics(ranking.best.results.metrics).values()
        number = min((metric.documents for metric in metrics if metric.documents), default=FEW_TEXTS)
        if number < FEW_TEXTS:
            few.append(f"{ranking.best.name} ({number})")
    if few:
        yield f"Measure on more test texts, because these are too few for a decision: {_listed(few)}."


def _not_learned(compositions: Ranking | None, rules: PromotionConfig) -> Iterator[str]:
    """Controls with untrained components that are not clearly worse than the best composition."""
    for pair in compositions.against if compositions else ():
        if pair.first.is_untrained and not any(_clear_winner(row, rules) == "second" for row in pair.rows):
            yield (
                f"Find out why training does not help: {pair.second.name} is on no main metric clearly better than "
                f"{pair.first.name}, whose components are untrained."
            )


def _rejected(collection: Collection) -> Iterator[str]:
    for item in collection.of_kind("corpus", "labeled"):
        total = item.values.get("quarantined", {}).get("total", 0)
        number = item.values.get("records", item.values.get("texts", 0))
        if total > _MUCH_REJECTED * (total + number):
            yield f"Look at {item.path}/quarantine.jsonl: {total / (total + number):.0%} of the input was rejected."


def _beaten(compositions: Ranking | None, tasks: Sequence[Ranking]) -> Iterator[str]:
    for ranking in tasks:
        if _is_beaten(ranking.best):
            yield f"Do not use {ranking.best.name} yet: n-grams do better. Train it longer or on more labeled texts."
    if compositions and _is_beaten(compositions.best) and not tasks:
        yield (
            f"Fine-tune {compositions.best.name} on labeled texts (`tasks` in params.yaml): its frozen features alone "
            "are behind a baseline."
        )


def _train_longer(collection: Collection) -> Iterator[str]:
    falling = [fall for item in collection.of_kind("embedder", "component", "task") if (fall := _still_falling(item))]
    if falling:
        yield f"Train longer, because held-out figures were still falling at the end: {_listed(falling)}."


def _still_falling(item: Published) -> str:
    """How a model's held-out bits fell in the last fifth of its training; "" if they hardly did."""
    rows = item.table("curve.csv")
    column = next((name for name in rows[0] if name.startswith("held_out_bits")), None) if rows else None
    points = [(float(row["step"]), float(row[column])) for row in rows if column and row[column]]
    if len(points) < 2:
        return ""
    end, last = points[-1]
    earlier = next((value for step, value in reversed(points[:-1]) if step <= 0.8 * end), points[0][1])
    if earlier - last <= _STILL_FALLING * abs(last):
        return ""
    return f"{item.name} ({end:,.0f} steps, {format_number(earlier)} to {format_number(last)})"


def _useless(compositions: Ranking | None) -> Iterator[str]:
    """Components that no main metric clearly needs."""
    if compositions is None:
        return
    best = compositions.best
    names = main_metrics(best.results.metrics)
    rows: dict[str, list[Mapping[str, str]]] = {}
    for row in contributions(best.results):
        if row["metric"] in names and row["low"]:
            rows.setdefault(row["component"], []).append(row)
    for component, own in rows.items():
        if len(rows) > 1 and all(float(row["low"]) <= 0 for row in own):
            yield f"Try {best.name} without {component}: no main metric is clearly worse without it."


def _fragile(rankings: Sequence[Ranking]) -> Iterator[str]:
    fragile = []
    for ranking in rankings:
        for name, points in noise_curves(ranking.best.results.metrics).items():
            clean, (rate, noisy) = points[0][1], points[-1]
            if clean.better == "higher" and clean.value > 0 and noisy.value < (1 - _FRAGILE) * clean.value:
                values = f"{format_number(clean.value)} to {format_number(noisy.value)}"
                edits = f"at {100 * rate:g} edits per 100 letters"
                fragile.append(f"{readable(name)} of {ranking.best.name} falls from {values} {edits}")
    if fragile:
        yield f"If your texts have many typing errors, train on more of them: {_listed(fragile)}."
