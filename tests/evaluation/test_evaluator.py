import dataclasses

import pytest

from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.selection import shuffled, up_to
from cclm_core.runtime.reporting import silent
from tests.evaluation.stand_ins import SMALL, Stand, clean_set, encode, records


def evaluate(folder, some, sets=None, config=SMALL, report=silent, **stand):
    corpus = encode(folder, some)
    return evaluate_composition(
        Stand(corpus.preprocessor, **stand), corpus, sets or [clean_set(some)], config, 1, report
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("learnt"), records())


def test_readouts_beat_their_baselines_where_there_is_something_to_learn(learnt):
    metrics = learnt.metrics
    assert metrics["bits_per_masked_character"] < metrics["unigram_bits"] - 1
    assert metrics["trigram_bits"] < metrics["unigram_bits"] - 0.7  # over 12 draws of the masks: 0.79 to 1.35 less
    assert metrics["entity_f1_clean"] > 0.9
    assert metrics["entity_dictionary_f1_clean"] == 0  # no name of the test documents stands in a training one
    assert metrics["genre_accuracy"] > 0.9 > metrics["genre_majority"]
    assert learnt.skipped == {}


def test_features_that_tell_nothing_reach_the_baselines_at_best(tmp_path):
    metrics = evaluate(tmp_path, records(), blank=True).metrics
    assert metrics["bits_per_masked_character"] == pytest.approx(metrics["unigram_bits"], abs=0.1)
    assert metrics["entity_f1_clean"] == 0
    assert metrics["genre_accuracy"] == pytest.approx(metrics["genre_majority"], abs=1e-9) or (
        metrics["genre_accuracy"] == pytest.approx(1 - metrics["genre_majority"])
    )


def test_labels_that_mean_nothing_are_not_learnt(tmp_path):
    assert evaluate(tmp_path, records(tell=False)).metrics["genre_accuracy"] < 0.7


def test_evaluating_twice_gives_the_same(learnt, tmp_path):
    again = evaluate(tmp_path, records())
    assert again.metrics == learnt.metrics and again.curve == learnt.curve and again.examples == learnt.examples


def test_batches_change_nothing_that_is_reported(learnt, tmp_path):
    config = SMALL.model_copy(update={"batch_characters": 700})
    other = evaluate(tmp_path, records(), config=config).metrics
    for name, value in learnt.metrics.items():
        assert other[name] == pytest.approx(value, abs=0.01), name


def test_each_noise_rate_has_its_figures(tmp_path):
    some = records()
    clean = clean_set(some)
    noisy = clean._replace(
        name="noise_0.5", rate=0.5, texts=[text.replace("Sir ", "Srr ").replace("e", "x") for text in clean.texts]
    )
    result = evaluate(tmp_path, some, [clean, noisy])
    assert [row["rate"] for row in result.curve] == [0.0, 0.5]
    assert result.metrics["entity_f1_noise_0.5"] < result.metrics["entity_f1_clean"]
    assert {row["set"] for row in result.entities} == {"clean", "noise_0.5"}
    assert {example["set"] for example in result.examples} == {"clean", "noise_0.5"}


def test_a_corpus_without_labels_or_entities_is_evaluated_all_the_same(tmp_path):
    plain = [dataclasses.replace(record, label=None, entities=()) for record in records()]
    result = evaluate(tmp_path, plain)
    assert set(result.metrics) == {"parameters", "width", "bits_per_masked_character", "unigram_bits", "trigram_bits"}
    assert result.skipped.keys() == {"entities", "classes"} and result.genres is None
    assert "entities" in result.skipped["entities"] and "labels" in result.skipped["classes"]


def test_a_corpus_without_test_documents_says_what_it_skips(tmp_path):
    some = [record for record in records() if record.split != "test"]
    result = evaluate(tmp_path, some)
    assert result.skipped.keys() == {"masked_characters", "entities", "classes"}
    assert set(result.metrics) == {"parameters", "width"}


def test_an_empty_document_does_no_harm(tmp_path):
    some = records()
    clean = clean_set(some)
    emptied = clean._replace(name="noise_1", rate=1.0, texts=[""] * len(clean.texts), entities=[[]] * len(clean.texts))
    result = evaluate(tmp_path, some, [clean, emptied])
    assert result.metrics["entity_f1_noise_1"] == 0
    assert 0 < result.metrics["genre_accuracy_noise_1"] < 1


def test_readouts_are_fitted_on_no_document_of_a_test_group(learnt, tmp_path):
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
    assert result.chosen == learnt.chosen
    assert result.metrics["entity_f1_clean"] == learnt.metrics["entity_f1_clean"]
    assert result.metrics["genre_accuracy"] == pytest.approx(1 - learnt.metrics["genre_accuracy"])


def test_the_report_has_every_phase_and_the_speed_and_the_metrics_no_time(tmp_path):
    seen = []
    result = evaluate(tmp_path, records(), report=lambda step, values, total=None: seen.append((step, values, total)))
    names = {name for _, values, _ in seen for name in values}
    assert names == {"characters_per_second", "evaluation_seconds"} and len(seen) > 5
    assert seen[-1][0] == seen[-1][2]
    assert not any("second" in name for name in result.metrics)


def test_the_choice_of_documents_depends_on_seed_and_purpose(tmp_path):
    documents = encode(tmp_path, records()).split("train").documents
    orders = [shuffled(documents, *how)["id"].tolist() for how in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]
    few = up_to(documents, 500)
    assert few["length"].sum() - few["length"].iloc[-1] < 500 <= few["length"].sum()
