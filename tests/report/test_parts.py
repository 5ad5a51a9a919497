"""Parts of the page: ranking, charts, marks in texts, the order of labels, the map."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from cclm_core.evaluation.metrics import Baseline, Metric
from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report.charts import MapGroups, Row, cells, interval_chart
from cclm_core.report.choices import best_part_table, choices_table
from cclm_core.report.differences import differences
from cclm_core.report.findings import advice, rank
from cclm_core.report.mistakes import MAX_LABELS, marked_changes, marked_spans, mistakes, similar_order
from cclm_core.report.model_page import model_page
from cclm_core.report.published import Collection, Model, Published
from cclm_core.report.scores import entities_table
from cclm_core.report.tables import Cell
from cclm_core.runtime.artifacts import publishing, verify, write_json


def published(folder: Path, kind: str, files: dict[str, str], card: dict[str, Any]) -> Published:
    """A published folder with the given files."""
    with publishing(folder, kind) as writing:
        for name, content in files.items():
            (writing / name).write_text(content)
        write_json(writing / ("evaluation.json" if kind == "evaluation" else "card.json"), card)
    return Published(kind, folder.name, folder.name, folder, verify(folder, kind), card)


def model(
    root: Path, name: str, metrics: dict[str, Metric], parameters: int, files: dict[str, str] | None = None
) -> Model:
    """A composition with results."""
    sizes = json.dumps({"parameters": parameters})
    made = published(root / name / "model", "composition", {"metrics.json": sizes}, {"name": name, "stage": "compose"})
    card = {"name": name, "seed": 1, "metrics": {key: metric.canonical() for key, metric in metrics.items()}}
    results = published(root / name / "results", "evaluation", files or {}, card)
    return Model(Published(made.kind, name, made.path, made.folder, made.digest, made.card), results)


def metric(
    value: float, half_width: float = 0.01, better: Any = "higher", documents: int = 500, **changes: Any
) -> Metric:
    interval = (value - half_width, value + half_width)
    return Metric(value=value, better=better, interval=interval, documents=documents, headline=True, **changes)


def test_the_model_with_more_clear_wins_is_best(tmp_path: Path) -> None:
    first = model(tmp_path, "large", {"accuracy": metric(0.8), "bits": metric(2.5, better="lower")}, 200)
    second = model(tmp_path, "small", {"accuracy": metric(0.6), "bits": metric(2.0, better="lower")}, 100)
    third = model(tmp_path, "both", {"accuracy": metric(0.8), "bits": metric(2.0, better="lower")}, 300)
    ranking = rank([first, second, third], PromotionConfig())
    assert ranking is not None and ranking.best.name == "both"
    text = " ".join(ranking.answer)
    assert "both is the best of 3 compositions" in text
    assert (
        "Against small: better on accuracy by 0.200 (0.186 to 0.214) and without a clear difference on 1 of 2" in text
    )
    assert "at 3 times its size" in text and "Against large: better on bits by 0.500" in text


def test_within_the_margin_the_smaller_model_is_best(tmp_path: Path) -> None:
    models = [
        model(tmp_path, "a", {"accuracy": metric(0.65)}, 200),
        model(tmp_path, "b", {"accuracy": metric(0.60)}, 100),
    ]
    clear, margin = PromotionConfig(), PromotionConfig.parse({"metrics": {"accuracy": {"margin": 0.1}}}, "promotion")
    assert [entry.best.name for rules in (clear, margin) if (entry := rank(models, rules))] == ["a", "b"]
    ranking = rank(models, margin)
    assert ranking is not None and ranking.answer[0].startswith("No clear difference between the 2 compositions; b is")
    assert rank([], clear) is None


def test_noise_decides_between_models_that_are_level_on_clean_text(tmp_path: Path) -> None:
    def task(name: str, noised: float, parameters: int) -> Model:
        values = {"accuracy": metric(0.9), "accuracy_noise_0.1": metric(noised)}
        return model(tmp_path, name, values, parameters)

    ranking = rank([task("small", 0.82, 100), task("robust", 0.87, 200)], PromotionConfig())
    assert ranking is not None and ranking.best.name == "robust"
    assert ranking.answer[0].startswith("robust is the best of 2 compositions.")
    assert ranking.answer[1] == (
        "Against small: better on accuracy, noise 0.1 by 0.0500 (0.0359 to 0.0641) and without a clear difference on "
        "accuracy, at 2 times its size."
    )
    assert ranking.table is not None and len(ranking.table.rows) == 2


def test_baselines_that_are_ahead_and_few_texts_lead_to_advice(tmp_path: Path) -> None:
    ahead = metric(0.5, documents=40, baselines=(Baseline(name="ngrams", value=0.7),))
    ranking = rank([model(tmp_path, "full", {"accuracy": ahead}, 10)], PromotionConfig())
    assert ranking is not None and "full is worse than ngrams on accuracy (0.700)" in ranking.answer[-1]
    steps = advice(Collection([ranking.best.model]), ranking, [], PromotionConfig(), 0.02)
    assert steps[0] == "Measure on more test texts, because these are too few for a decision: full (40)."
    assert "Fine-tune full" in steps[1] and "2.0% are encoded as bytes" in steps[2]


def test_label_accuracy_is_compared_on_the_same_documents(tmp_path: Path) -> None:
    rows = [(f"d{number}", "a" if number % 2 else "b") for number in range(200)]

    def confusion(num_right: int) -> dict[str, str]:
        """Labels of which the first `num_right` are right."""
        lines = [f"{name},{true},{true if n < num_right else 'x'}" for n, (name, true) in enumerate(rows)]
        return {"confusion.csv": "\n".join(["id,true,predicted", *lines]) + "\n"}

    sides = [
        model(tmp_path, f"m{number}", {"label_accuracy": metric(number / 200, 0.07)}, 1, confusion(number))
        for number in (100, 112)
    ]
    (row,), notes = differences(*(side.results.metrics for side in sides), *(side.results.folder for side in sides))
    assert row.method == "paired" and row.winner == "second" and notes == []
    assert row.interval is not None and row.interval[0] > 0.02 and row.interval[1] < 0.1  # unpaired: -0.04 to 0.16
    (alone,), _ = differences(*(side.results.metrics for side in sides), None, None)
    assert alone.method == "unpaired" and alone.winner == ""


def test_similar_labels_are_next_to_each_other() -> None:
    labels = ["a", "b", "c", "d"]
    counts = Counter({("a", "d"): 9, ("d", "a"): 9, ("b", "c"): 9, ("c", "b"): 9} | {(x, x): 10 for x in labels})
    order = similar_order(labels, counts)
    assert abs(order.index("a") - order.index("d")) == abs(order.index("b") - order.index("c")) == 1


def test_77_labels_are_shown_with_their_confusions(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    labels = [f"label_{number:02}" for number in range(77)]
    rows = [(labels[n % 77], labels[(n + (generator.random() < 0.2)) % 77]) for n in range(3080)]
    lines = ["id,true,predicted", *(f"{n},{true},{predicted}" for n, (true, predicted) in enumerate(rows))]
    result = mistakes(model(tmp_path, "full", {}, 1, {"confusion.csv": "\n".join(lines) + "\n"}))
    assert result.pairs is not None and len(result.pairs.rows) == 20
    shares = [cell.sort for row in result.pairs.rows for cell in row[2:3]]
    assert all(share is not None and 0.1 < share < 0.7 for share in shares)
    assert result.cells.count('class="wrong"') == len({pair for pair in rows if pair[0] != pair[1]})
    assert len(result.cells) < 200_000 and result.note == "77 labels"


def test_with_very_many_labels_the_most_confused_ones_are_shown(tmp_path: Path) -> None:
    lines = ["id,true,predicted", *(f"{n},l{n % 400},l{(n + n % 3) % 400}" for n in range(4000))]
    result = mistakes(model(tmp_path, "full", {}, 1, {"confusion.csv": "\n".join(lines) + "\n"}))
    assert result.note == f"The {MAX_LABELS} most confused of 400 labels"


def test_wrong_characters_and_spans_are_marked_and_escaped(tmp_path: Path) -> None:
    assert marked_changes("<my> card", "<my> cadr") == Markup("&lt;my&gt; ca<ins>d</ins>r<del>d</del>")
    text = marked_spans("Bo met <Al>", [(0, 2, "PER"), (8, 10, "PER")], [(0, 2, "PER"), (3, 6, "LOC")])
    assert text.startswith('<mark class="right" title="right: PER">Bo</mark>')
    assert '<mark class="false" title="wrong: LOC">met</mark> &lt;<mark class="missed"' in text
    clean = {"set": "clean", "id": "1", "text": "my card", "label": "card", "predicted_label": "card"}
    noisy = clean | {"set": "noise_0.2", "text": "my crad", "predicted_label": "refund"}
    files = {"predictions.jsonl": f"{json.dumps(clean)}\n{json.dumps(noisy)}\n"}
    examples = mistakes(model(tmp_path, "full", {}, 1, files)).examples
    assert examples is not None and examples.caption == "1 of 2 stored predictions are wrong."
    ((cell, *rest),) = examples.rows
    assert isinstance(cell, Cell) and "<ins>r</ins>a<del>r</del>" in cell.content
    assert [other.content for other in rest] == ["card", "refund", "noise 0.2"]


def test_kinds_of_entities_have_rows_of_their_own(tmp_path: Path) -> None:
    lines = ["set,label,gold,predicted,precision,recall,f1", "clean,PERSON,31,172,0.03,0.19,0.05"]
    lines += ["clean,GOD,4,2,1.0,0.5,0.667", "noise_0.1,GOD,4,2,0.5,0.25,0.333"]
    shown = entities_table(model(tmp_path, "full", {}, 1, {"entities.csv": "\n".join(lines) + "\n"}))
    assert shown is not None
    assert [[cell.content for cell in row][:4] for row in shown.rows] == [
        ["GOD", "clean", "4", "2"],
        ["GOD", "noise 0.1", "4", "2"],
        ["PERSON", "clean", "31", "172"],
    ]
    assert shown.columns[-1] == "F1" and entities_table(model(tmp_path, "none", {}, 1)) is None


def test_the_page_of_a_composition_shows_what_each_probe_reads_and_its_best_component(tmp_path: Path) -> None:
    chosen = {"parts": ["names", "words"], "weights": "fixed", "loss": 0.9, "clean": 0.8, "noise_0.1": 1.0}
    parts = {"names": {"chosen": True, "alone": 0.95, "without": 1.05, "weight": 0.8}}
    parts["words"] = {"chosen": False, "alone": 1.05}
    lines = ["set,part,best,metric,alone,composition,gain,low,high", "clean,words,,entity_f1,0.3,0.5,0.2,0.1,0.3"]
    lines += ["noise_0.1,names,yes,entity_f1,0.45,0.4,-0.05,-0.08,-0.02"]
    files = {"choice.json": json.dumps({"tags": {"chosen": chosen, "parts": parts}}), "alone.csv": "\n".join(lines)}
    made = model(tmp_path, "full", {"entity_f1_clean": metric(0.5)}, 10, files)
    choices, best = choices_table(made), best_part_table(made)
    assert choices is not None and best is not None
    assert [[cell.content for cell in row] for row in choices.rows] == [
        ["tags", "names", "yes", "0.800", "0.950", "1.05"],
        ["tags", "words", "no", "", "1.05", ""],
    ]
    assert "a probe per component" in choices.caption and "loss 0.900 (0.800 clean, 1 noise 0.1)" in choices.caption
    assert [[cell.content for cell in row][:5] for row in best.rows] == [
        ["entity F1", "noise 0.1", "0.400", "names", "0.450"]
    ]
    assert choices_table(model(tmp_path, "none", {}, 1)) is None


def test_the_page_of_an_ensemble_shows_what_it_gains_over_each_part(tmp_path: Path) -> None:
    lines = ["set,part,best,metric,alone,ensemble,gain,low,high", "clean,net,,accuracy,0.8,0.9,0.1,0.05,0.15"]
    lines += ["clean,counts,yes,accuracy,0.88,0.9,0.02,-0.01,0.05", "noise_0.1,net,,accuracy,0.7,0.8,0.1,0.05,0.15"]
    measured = {"accuracy": metric(0.9, baselines=(Baseline(name="ngrams", value=0.95),))}
    made = model(tmp_path, "both", measured, 10, {"parts.csv": "\n".join(lines) + "\n"})
    card = {"name": "both", "stage": "fuse", "configuration": {"parts": ["net", "counts"], "weights": "auto"}}
    ensemble = replace(made, model=replace(made.model, kind="task", path="models/ensembles/both", card=card))
    assert ensemble.kind == "ensemble" and ensemble.page == "ensembles/both.html"
    page = model_page(ensemble, [ensemble], Collection([ensemble.model, ensemble.results]), None)
    assert "<title>Ensemble both</title>" in page and "<td>net, counts</td>" in page
    assert page.count("gain over it</text>") == 2 and "counts: 0.0200 (-0.0100 to 0.0500)" in page
    assert 'class="number best" data-sort="0.95"' in page and 'id="maps"' not in page


def test_charts_escape_names_and_have_tooltips() -> None:
    chart = interval_chart("<title>", [Row("<b>", 0.5, (0.4, 0.6), 1, "a & b")], "share", zero=True)
    assert "<b>" not in chart and "&lt;b&gt;: 0.500 (0.400 to 0.600) a &amp; b</title>" in chart
    square = cells("labels", ["a", "<b>"], {(0, 1): 3, (0, 0): 1})
    assert "a → &lt;b&gt;: 3 of 4 (75%)" in square and square.count("<rect") == 3
    groups = MapGroups.of([str(number % 12) for number in range(120)])
    assert len(groups.colors) == 8 and groups.kind("unknown") == "other"


def test_the_map_is_well_defined() -> None:
    from cclm_core.report.maps import projected

    generator = np.random.default_rng(2)
    vectors = (generator.normal(size=(50, 6)) * [9, 4, 1, 0.1, 0.1, 0.1]).astype(np.float32)
    places, share = projected(vectors)
    assert projected(vectors) == (places, share) and share > 0.95
    assert {min(x for x, _ in places), max(x for x, _ in places)} == {0, 1000}
    assert np.corrcoef([x for x, _ in places], vectors[:, 0])[0, 1] == pytest.approx(1, abs=0.01) or np.corrcoef(
        [x for x, _ in places], vectors[:, 0]
    )[0, 1] == pytest.approx(-1, abs=0.01)
    assert projected(np.zeros((4, 3), dtype=np.float32)) == ([(0, 0)] * 4, 1.0)
