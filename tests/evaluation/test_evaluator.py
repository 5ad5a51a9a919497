"""The evaluator: probes beat their baselines where something can be learned, and every metric is complete."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from cclm_core.corpus.records import Record
from cclm_core.evaluation import EvaluationConfig, evaluate_composition
from cclm_core.evaluation.metrics import Better
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import TextSet, limit_ids, shuffled
from cclm_core.runtime.reporting import Report, silent
from tests.evaluation.stand_ins import SMALL, Stand, clean_set, encode, records


def evaluate(
    folder: Path,
    some: list[Record],
    sets: list[TextSet] | None = None,
    config: EvaluationConfig = SMALL,
    report: Report = silent,
    blank: bool = False,
) -> Evaluation:
    corpus = encode(folder, some)
    stand = Stand(corpus.preprocessor, blank=blank)
    return evaluate_composition(stand, corpus, sets or [clean_set(some)], config, 1, report)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(tmp_path_factory.mktemp("learned"), records())


def test_probes_beat_their_baselines_where_there_is_something_to_learn(learned: Evaluation) -> None:
    metrics = learned.values()
    bits, unigram, trigram = (metrics["bits_per_masked_character" + name] for name in ("", "_unigram", "_trigram"))
    assert bits < unigram - 1
    assert trigram < unigram - 0.7  # over 12 draws of the masks: 0.79 to 1.35 less
    assert metrics["entity_f1_clean"] > 0.9
    assert metrics["entity_f1_clean_dictionary"] == 0  # no name of the test documents is in a training one
    assert metrics["label_accuracy"] > 0.9 > metrics["label_accuracy_majority"]
    assert learned.skipped == {}


def test_features_that_tell_nothing_reach_the_baselines_at_best(tmp_path: Path) -> None:
    metrics = evaluate(tmp_path, records(), blank=True).values()
    assert metrics["bits_per_masked_character"] == pytest.approx(metrics["bits_per_masked_character_unigram"], abs=0.1)
    assert metrics["entity_f1_clean"] == 0
    assert metrics["label_accuracy"] == pytest.approx(metrics["label_accuracy_majority"], abs=1e-9) or (
        metrics["label_accuracy"] == pytest.approx(1 - metrics["label_accuracy_majority"])
    )


def test_labels_that_mean_nothing_are_not_learned(tmp_path: Path) -> None:
    assert evaluate(tmp_path, records(tell=False)).values()["label_accuracy"] < 0.7


def test_evaluating_twice_gives_the_same(learned: Evaluation, tmp_path: Path) -> None:
    again = evaluate(tmp_path, records())
    assert again.metrics == learned.metrics and again.curve == learned.curve and again.examples == learned.examples


def test_batches_change_nothing_that_is_reported(learned: Evaluation, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"batch_characters": 700})
    other = evaluate(tmp_path, records(), config=config).values()
    for name, value in learned.values().items():
        assert other[name] == pytest.approx(value, abs=0.01), name


def test_each_noise_rate_has_its_figures(tmp_path: Path) -> None:
    some = records()
    clean = clean_set(some)
    noisy = clean._replace(
        name="noise_0.5", rate=0.5, texts=[text.replace("Sir ", "Srr ").replace("e", "x") for text in clean.texts]
    )
    result = evaluate(tmp_path, some, [clean, noisy])
    assert [rate for rate, _ in result.curve] == [0.0, 0.5]
    metrics = result.values()
    assert metrics["entity_f1_noise_0.5"] < metrics["entity_f1_clean"]
    assert {row["set"] for row in result.tables["entities"]} == {"clean", "noise_0.5"}
    assert {example["set"] for example in result.examples} == {"clean", "noise_0.5"}


def test_a_corpus_without_labels_or_entities_is_evaluated_all_the_same(tmp_path: Path) -> None:
    plain = [dataclasses.replace(record, label=None, entities=()) for record in records()]
    result = evaluate(tmp_path, plain)
    bits = {"bits_per_masked_character" + baseline for baseline in ("", "_unigram", "_trigram")}
    plain_metrics = {name for name in result.metrics if not name.startswith("contribution/")}
    assert plain_metrics == {"parameters", "width", *bits}
    assert result.skipped.keys() == {"tags", "labels"} and result.tables.keys() == {"contribution"}
    assert "entities" in result.skipped["tags"] and "labels" in result.skipped["labels"]


def test_a_corpus_without_test_documents_says_what_it_skips(tmp_path: Path) -> None:
    some = [record for record in records() if record.split != "test"]
    result = evaluate(tmp_path, some)
    assert result.skipped.keys() == {"characters", "tags", "labels"}
    assert set(result.metrics) == {"parameters", "width"}


def test_an_empty_document_does_no_harm(tmp_path: Path) -> None:
    some = records()
    clean = clean_set(some)
    emptied = clean._replace(name="noise_1", rate=1.0, texts=[""] * len(clean.texts), entities=[[]] * len(clean.texts))
    result = evaluate(tmp_path, some, [clean, emptied])
    assert result.values()["entity_f1_noise_1"] == 0
    assert 0 < result.values()["label_accuracy_noise_1"] < 1


def test_probes_are_fitted_on_no_document_of_a_test_group(learned: Evaluation, tmp_path: Path) -> None:
    """Test documents whose tags and labels are all wrong change scores alone: what was fitted and chosen stays."""
    some = records()
    fitted_on = {record.group for record in some if record.split != "test"}
    assert not fitted_on & {record.group for record in some if record.split == "test"}
    other = {"comedy": "tragedy", "tragedy": "comedy"}
    wrong = [
        record if record.split != "test" else dataclasses.replace(record, label=other[str(record.label)], entities=())
        for record in some
    ]
    result = evaluate(tmp_path, wrong, [clean_set(some)])
    assert result.hyperparameters == learned.hyperparameters
    assert result.metrics["entity_f1_clean"] == learned.metrics["entity_f1_clean"]
    assert result.values()["label_accuracy"] == pytest.approx(1 - learned.values()["label_accuracy"])


def test_the_report_has_every_step_and_the_speed_and_the_metrics_have_no_time(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float], int | None]] = []

    def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
        seen.append((step, dict(values), total))

    result = evaluate(tmp_path, records(), report=report)
    assert [step for step, _, _ in seen] == [1, 2, 3, 4, 4] and {total for _, _, total in seen} == {4}
    assert seen[-1][1].keys() == {"characters_per_second", "evaluation_seconds"}
    assert not any("second" in name for name in result.metrics)


def test_every_metric_has_a_direction_an_interval_around_it_and_the_main_ones_a_baseline(learned: Evaluation) -> None:
    better: dict[str, Better] = {"bits_per_masked_character": "lower", "entity_f1_clean": "higher"}
    better["label_accuracy"] = "higher"
    baselines = {"bits_per_masked_character": ["trigram", "unigram"], "entity_f1_clean": ["dictionary"]}
    baselines["label_accuracy"] = ["ngrams", "majority"]
    for name, direction in better.items():
        metric = learned.metrics[name]
        assert metric.better == direction and metric.headline
        assert {*baselines[name]} <= {baseline.name for baseline in metric.baselines}
        for baseline in metric.baselines:
            assert learned.metrics[f"{name}_{baseline.name}"].value == baseline.value
    for name, metric in learned.metrics.items():
        if name not in ("parameters", "width"):
            assert metric.interval is not None and metric.documents is not None, name
            assert metric.interval[0] <= metric.value <= metric.interval[1], name
    assert learned.metrics["entity_f1_clean"].documents == learned.metrics["label_accuracy"].documents == 60


def test_probes_and_baselines_can_be_left_out(tmp_path: Path) -> None:
    config = EvaluationConfig.parse(
        SMALL.canonical() | {"probes": SMALL.canonical()["probes"][2:], "baselines": []}, ""
    )
    result = evaluate(tmp_path, records(), config=config.model_copy(update={"contributions": False}))
    assert {"label_accuracy", "label_macro_f1"} <= result.metrics.keys()
    assert not any(name.startswith(("bits_", "entity_")) or name.endswith("_ngrams") for name in result.metrics)
    assert result.metrics["label_accuracy"].baselines == () and result.skipped == {}


def test_the_choice_of_documents_depends_on_seed_and_purpose(tmp_path: Path) -> None:
    documents = encode(tmp_path, records()).split("train").documents
    orders = [shuffled(documents, *how)["id"].tolist() for how in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]
    few = limit_ids(documents, 500)
    assert few["length"].sum() - few["length"].iloc[-1] < 500 <= few["length"].sum()
