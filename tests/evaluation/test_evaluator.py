"""The evaluator: probes beat their baselines if there is something to learn, and metrics are complete."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from cclm_core.corpus.records import Record
from cclm_core.evaluation import EvaluationConfig, evaluate_composition
from cclm_core.evaluation.metrics import Better
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.selection import TextSet, limit_ids, shuffled
from cclm_core.runtime.reporting import Report, null_report
from tests.evaluation.fakes import SMALL, FakeComposition, clean_set, encode, make_records


def evaluate(
    folder: Path,
    records: list[Record],
    sets: list[TextSet] | None = None,
    config: EvaluationConfig = SMALL,
    report: Report = null_report,
    blank: bool = False,
) -> Evaluation:
    corpus = encode(folder, records)
    composed = FakeComposition(corpus.preprocessor, blank=blank)
    return evaluate_composition(composed, corpus, sets or [clean_set(records)], config, 1, report)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(tmp_path_factory.mktemp("learned"), make_records())


def test_probes_beat_their_baselines_if_there_is_something_to_learn(learned: Evaluation) -> None:
    metrics = learned.values()
    bits, unigram, trigram = (metrics["bits_per_masked_character" + name] for name in ("", "_unigram", "_trigram"))
    assert bits < unigram - 1
    assert trigram < unigram - 0.7  # over 12 draws of the masks: 0.79 to 1.35 less
    assert metrics["entity_f1_clean"] > 0.9
    assert metrics["entity_f1_clean_dictionary"] == 0  # test documents contain none of the training names
    assert metrics["label_accuracy"] > 0.9 > metrics["label_accuracy_majority"]
    assert learned.skipped == {}


@pytest.mark.slow
def test_uninformative_features_do_not_beat_the_baselines(tmp_path: Path) -> None:
    metrics = evaluate(tmp_path, make_records(), blank=True).values()
    assert metrics["bits_per_masked_character"] == pytest.approx(metrics["bits_per_masked_character_unigram"], abs=0.1)
    assert metrics["entity_f1_clean"] == 0
    assert metrics["label_accuracy"] == pytest.approx(metrics["label_accuracy_majority"], abs=1e-9) or (
        metrics["label_accuracy"] == pytest.approx(1 - metrics["label_accuracy_majority"])
    )


@pytest.mark.slow
def test_random_labels_are_not_learned(tmp_path: Path) -> None:
    assert evaluate(tmp_path, make_records(is_learnable=False)).values()["label_accuracy"] < 0.7


def test_evaluation_is_reproducible(learned: Evaluation, tmp_path: Path) -> None:
    again = evaluate(tmp_path, make_records())
    assert again.metrics == learned.metrics and again.curve == learned.curve and again.examples == learned.examples


@pytest.mark.slow
def test_the_batch_size_does_not_change_the_metrics(learned: Evaluation, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"batch_characters": 700})
    other = evaluate(tmp_path, make_records(), config=config).values()
    for name, value in learned.values().items():
        assert other[name] == pytest.approx(value, abs=0.01), name


def test_each_noise_rate_has_metrics(tmp_path: Path) -> None:
    records = make_records()
    clean = clean_set(records)
    noisy = clean._replace(
        name="noise_0.5", rate=0.5, texts=[text.replace("Sir ", "Srr ").replace("e", "x") for text in clean.texts]
    )
    result = evaluate(tmp_path, records, [clean, noisy])
    assert [rate for rate, _ in result.curve] == [0.0, 0.5]
    metrics = result.values()
    assert metrics["entity_f1_noise_0.5"] < metrics["entity_f1_clean"]
    assert {row["set"] for row in result.tables["entities"]} == {"clean", "noise_0.5"}
    assert {example["set"] for example in result.examples} == {"clean", "noise_0.5"}


def test_a_corpus_without_labels_and_entities_can_be_evaluated(tmp_path: Path) -> None:
    plain = [dataclasses.replace(record, label=None, entities=()) for record in make_records()]
    result = evaluate(tmp_path, plain)
    bits = {"bits_per_masked_character" + baseline for baseline in ("", "_unigram", "_trigram")}
    plain_metrics = {name for name in result.metrics if not name.startswith("contribution/")}
    assert plain_metrics == {"parameters", "width", "documents/bits_per_masked_character", *bits}
    assert result.skipped.keys() == {"tags", "labels"} and result.tables.keys() == {"contribution", "parts"}
    assert "entities" in result.skipped["tags"] and "labels" in result.skipped["labels"]


def test_without_test_documents_all_probes_are_skipped(tmp_path: Path) -> None:
    records = [record for record in make_records() if record.split != "test"]
    result = evaluate(tmp_path, records)
    assert result.skipped.keys() == {"characters", "tags", "labels"}
    assert set(result.metrics) == {"parameters", "width"}


def test_empty_documents_are_scored(tmp_path: Path) -> None:
    records = make_records()
    clean = clean_set(records)
    emptied = clean._replace(name="noise_1", rate=1.0, texts=[""] * len(clean.texts), entities=[[]] * len(clean.texts))
    result = evaluate(tmp_path, records, [clean, emptied])
    assert result.values()["entity_f1_noise_1"] == 0
    assert 0 < result.values()["label_accuracy_noise_1"] < 1


def test_probes_never_see_test_documents(learned: Evaluation, tmp_path: Path) -> None:
    """Wrong tags and labels in the test documents change scores, but neither probes nor hyperparameters."""
    records = make_records()
    groups = {record.group for record in records if record.split != "test"}
    assert not groups & {record.group for record in records if record.split == "test"}
    swapped = {"comedy": "tragedy", "tragedy": "comedy"}
    wrong = [
        record if record.split != "test" else dataclasses.replace(record, label=swapped[str(record.label)], entities=())
        for record in records
    ]
    result = evaluate(tmp_path, wrong, [clean_set(records)])
    assert result.hyperparameters == learned.hyperparameters
    assert result.metrics["entity_f1_clean"] == learned.metrics["entity_f1_clean"]
    assert result.values()["label_accuracy"] == pytest.approx(1 - learned.values()["label_accuracy"])


@pytest.mark.slow
def test_speed_and_duration_are_reported_and_not_part_of_the_metrics(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float], int | None]] = []

    def report(step: int, values: Mapping[str, float], total: int | None = None) -> None:
        reports.append((step, dict(values), total))

    result = evaluate(tmp_path, make_records(), report=report)
    assert [step for step, _, _ in reports] == [1, 2, 3, 4, 4] and {total for _, _, total in reports} == {4}
    assert reports[-1][1].keys() == {"characters_per_cpu_second", "evaluation_cpu_seconds"}
    assert not any("second" in name for name in result.metrics)


def test_metrics_have_direction_and_interval_and_headline_metrics_have_baselines(learned: Evaluation) -> None:
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
        if name not in ("parameters", "width") and not name.startswith(("documents/", "labels/")):
            assert metric.interval is not None and metric.documents is not None, name
            assert metric.interval[0] <= metric.value <= metric.interval[1], name
    assert learned.metrics["entity_f1_clean"].documents == learned.metrics["label_accuracy"].documents == 60
    assert learned.metrics["label_accuracy"].labels == 2 and learned.metrics["entity_f1_clean"].labels == 1


def test_the_metrics_say_how_many_documents_and_labels_they_are_measured_on(learned: Evaluation) -> None:
    values = learned.values()
    assert values["documents/label_accuracy"] == values["documents/entity_f1_clean"] == 60
    assert values["labels/label_accuracy"] == 2 and values["labels/entity_f1_clean"] == 1
    assert 0 < values["documents/bits_per_masked_character"] <= 60
    assert learned.warnings == [
        "label_accuracy is measured on only 60 of 60 test documents: it needs labeled documents of at least 20 "
        "characters (min_characters of the labels probe).",
        "entity_f1 is measured on only 60 of 60 test documents: the test sets have no more.",
    ]


def short_records() -> list[Record]:
    """Labeled messages of a few characters, 300 of them in the test split, without entities and variants."""
    records = make_records(sizes=(300, 40, 300))
    words = {"comedy": "merry song", "tragedy": "blood ghost"}
    return [dataclasses.replace(record, text=words[str(record.label)], entities=()) for record in records]


def test_by_default_every_labeled_text_is_scored_however_short(tmp_path: Path) -> None:
    config = EvaluationConfig.parse({"probes": [{"probe": "labels"}], "contributions": False}, "test")
    result = evaluate(tmp_path, short_records(), config=config)
    assert result.metrics["label_accuracy"].documents == 300 and result.warnings == []
    assert len(result.tables["confusion"]) == 300
    # The noise curve begins with the headline, because both have the same documents.
    assert result.curve[0][1]["label_accuracy"] == result.metrics["label_accuracy"]
    assert "label_accuracy_clean" not in result.metrics


def test_a_part_of_the_test_split_gives_a_warning_and_no_example_without_a_label(tmp_path: Path) -> None:
    records = short_records()
    unlabeled = [
        dataclasses.replace(record, label=None) if number % 30 else record for number, record in enumerate(records)
    ]
    config = EvaluationConfig.parse({"probes": [{"probe": "labels"}], "contributions": False}, "test")
    result = evaluate(tmp_path, unlabeled, config=config)
    (warning,) = result.warnings
    assert warning.startswith("label_accuracy is measured on only 10 of 300 test documents")
    assert len(result.examples) == 10 and all(example["predicted_label"] for example in result.examples)


def test_the_clean_test_set_has_a_name_of_its_own_if_it_has_fewer_documents(tmp_path: Path) -> None:
    records = short_records()
    clean = clean_set(records)
    half = clean._replace(**{name: getattr(clean, name)[:150] for name in ("ids", "texts", "labels", "entities")})
    config = EvaluationConfig.parse({"probes": [{"probe": "labels"}], "contributions": False}, "test")
    result = evaluate(tmp_path, records, [half], config=config)
    assert result.values()["documents/label_accuracy"] == 300
    assert result.values()["documents/label_accuracy_clean"] == 150
    assert result.curve[0][1]["label_accuracy"].value == result.values()["label_accuracy_clean"]
    assert result.all_tables()["noise_curve"][0]["documents/label_accuracy"] == 150


def test_labels_that_are_identifiers_are_not_measured(tmp_path: Path) -> None:
    records = [dataclasses.replace(record, label=record.id) for record in make_records(sizes=(1000, 5, 5))]
    config = EvaluationConfig.parse({"probes": [{"probe": "labels"}]}, "test")
    assert "at most 1,000 different ones, got 1,005" in evaluate(tmp_path, records, config=config).skipped["labels"]


def test_probes_and_baselines_can_be_omitted(tmp_path: Path) -> None:
    config = EvaluationConfig.parse(
        SMALL.canonical() | {"probes": SMALL.canonical()["probes"][2:], "baselines": []}, ""
    )
    result = evaluate(tmp_path, make_records(), config=config.model_copy(update={"contributions": False}))
    assert {"label_accuracy", "label_macro_f1"} <= result.metrics.keys()
    assert not any(name.startswith(("bits_", "entity_")) or name.endswith("_ngrams") for name in result.metrics)
    assert result.metrics["label_accuracy"].baselines == () and result.skipped == {}


def test_the_order_of_documents_depends_on_seed_and_purpose(tmp_path: Path) -> None:
    documents = encode(tmp_path, make_records()).split("train").documents
    orders = [shuffled(documents, *names)["id"].tolist() for names in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]
    few = limit_ids(documents, 500)
    assert few["length"].sum() - few["length"].iloc[-1] < 500 <= few["length"].sum()
