"""Which components a probe reads, and contributions: the metrics of a composition that never had a component."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation import EvaluationConfig, evaluate_composition
from cclm_core.evaluation.held_out import SelectionNoise
from cclm_core.evaluation.reading import Composed
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.views import Parts, View
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import Preprocessor
from tests.composition.nests import over
from tests.encoders.shapes import SMALL as SHAPE
from tests.encoders.shapes import embedder
from tests.evaluation.fakes import SMALL, FakeComposition, clean_set, encode, make_records


class Rest(FakeComposition):
    """The fake composition without the features of one convolution."""

    def __init__(self, preprocessor: Preprocessor, left_out: str) -> None:
        super().__init__(preprocessor)
        parts = Parts(self.width, super().columns)
        self.view = parts.view([name for name in parts.columns if name != left_out])
        self.width = len(self.view.columns)

    columns = {"rest": slice(0, 64)}  # noqa: RUF012

    def forward(self, ids: Tensor) -> Tensor:
        whole, self.width = self.width, 96
        try:
            return self.view.of(super().forward(ids))
        finally:
            self.width = whole


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus"), make_records())


def evaluate(composed: Composed, corpus: EncodedCorpus, config: EvaluationConfig = SMALL) -> Evaluation:
    return evaluate_composition(composed, corpus, [clean_set(make_records())], config, 1, null_report)


@pytest.fixture(scope="module")
def whole(corpus: EncodedCorpus) -> Evaluation:
    return evaluate_composition(
        FakeComposition(corpus.preprocessor), corpus, [clean_set(make_records())], SMALL, 1, null_report
    )


def contributions(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, float]]:
    """(component, metric) -> row of the table of contributions."""
    return {(row["component"], row["metric"]): row for row in evaluation.tables.get("contribution", [])}


def test_leaving_out_equals_evaluating_the_rest(whole: Evaluation, corpus: EncodedCorpus) -> None:
    rest = evaluate_composition(
        Rest(corpus.preprocessor, "size-7"), corpus, [clean_set(make_records())], SMALL, 1, null_report
    )
    rows = contributions(whole)
    assert {component for component, _ in rows} == {"size-1", "size-3", "size-7"}
    assert contributions(rest) == {} and rest.skipped == {}
    for (component, name), row in rows.items():
        if component == "size-7":
            assert row["without"] == pytest.approx(rest.metrics[name].value, abs=0.01), name
    # Only neighbors reveal masked characters, and the widest kernel sees most of them.
    assert rows["size-7", "bits_per_masked_character"]["contribution"] > 0.1


def test_a_contribution_is_positive_if_the_metric_gets_worse(whole: Evaluation) -> None:
    rows = contributions(whole)
    assert len(rows) == 9
    for (component, metric), row in rows.items():
        increase = row["without"] - row["whole"]
        assert row["contribution"] == pytest.approx(increase if metric == "bits_per_masked_character" else -increase)
        assert row["whole"] == whole.metrics[metric].value
        published = whole.metrics[f"contribution/{component}/{metric}"]
        assert (published.value, published.better) == (row["contribution"], "higher")
        assert published.interval == (row["low"], row["high"]) and row["low"] <= row["contribution"] <= row["high"]


def test_contributions_do_not_change_the_other_metrics(whole: Evaluation, corpus: EncodedCorpus) -> None:
    config = SMALL.model_copy(update={"contributions": False})
    plain = evaluate_composition(
        FakeComposition(corpus.preprocessor), corpus, [clean_set(make_records())], config, 1, null_report
    )
    metrics = {name: metric for name, metric in whole.metrics.items() if not name.startswith("contribution/")}
    assert plain.metrics == metrics
    assert contributions(plain) == {} and plain.skipped == {}


COLUMNS = {"a": slice(0, 2), "b": slice(2, 3), "c": slice(3, 6)}


def views(values: dict[str, float] | None, selected: bool = True) -> tuple[dict[str, str], list[str]]:
    """Left out -> what is read, and what was fitted, given a score for the names that are read."""
    fitted = []

    def score(selection: Sequence[View]) -> list[float] | None:
        fitted.extend("".join(view.read) for view in selection)
        return None if values is None else [values["".join(view.read)] for view in selection]

    result = Parts(6, COLUMNS, selected).views(score)
    assert {"".join(view.read) for view in result} <= {*fitted} and len(fitted) == len({*fitted})
    return {view.left_out: "".join(view.read) for view in result}, fitted


def test_a_probe_reads_the_parts_that_are_best_on_held_out_text() -> None:
    scores = {"abc": 0.5, "bc": 0.4, "ac": 0.6, "ab": 0.7, "b": 0.6, "a": 0.7}
    assert views(scores) == ({"": "ab", "a": "b", "b": "a", "c": "ab"}, ["abc", "bc", "ac", "ab", "b", "a"])
    alone = views(scores | {"a": 0.8})
    assert alone[0] == {"": "a", "b": "a", "c": "a"}
    everything = {"": "abc", "a": "bc", "b": "ac", "c": "ab"}
    assert views(dict.fromkeys(scores, 0.5))[0] == everything
    assert views(None)[0] == views(scores, selected=False)[0] == everything
    view = Parts(6, COLUMNS).view(["a", "c"])
    assert view.of(torch.arange(6)).tolist() == [0, 1, 3, 4, 5]
    assert view.of_pooled(torch.arange(12)[None]).tolist() == [[0, 1, 3, 4, 5, 6, 7, 9, 10, 11]]


class Noisy(FakeComposition):
    """The fake composition with random features instead of those of the widest convolution."""

    def forward(self, ids: Tensor) -> Tensor:
        features = super().forward(ids)
        noise = torch.rand(ids.shape[0], ids.shape[1], 32, generator=torch.Generator().manual_seed(ids.shape[1]))
        features[..., 64:] = noise * (ids != 0)[..., None]
        return features


def noisy(folder: Path, select_parts: bool) -> Evaluation:
    """Evaluates names and labels with 220 validation documents."""
    records = make_records(sizes=(120, 220, 40))
    probes = (SMALL.probes[1], SMALL.probes[2].model_copy(update={"validation_documents": 300}))
    noise = SelectionNoise(rates=(0.1,))
    config = SMALL.model_copy(update={"select_parts": select_parts, "probes": probes, "selection_noise": noise})
    corpus, clean = encode(folder, records), clean_set(records)
    sets = [clean, clean._replace(name="noise_0.1", rate=0.1)]
    return evaluate_composition(Noisy(corpus.preprocessor), corpus, sets, config, 1, null_report)


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return noisy(tmp_path_factory.mktemp("selected"), True)


def test_a_part_of_noise_is_not_read_and_the_metrics_are_those_without_it(selected: Evaluation, tmp_path: Path) -> None:
    # The random features of a character depend on its position, so they tell the tags probe a little.
    read = {row["component"]: row["read"] for row in selected.tables["parts"] if row["probe"] == "labels"}
    assert read["size-3"] and not read["size-7"]
    row = contributions(selected)["size-7", "label_accuracy"]
    assert (row["contribution"], row["low"], row["high"]) == (0, 0, 0)
    plain = noisy(tmp_path, False)
    assert plain.choices == {} and "alone" not in plain.tables and all(row["read"] for row in plain.tables["parts"])
    for metric in ("label_accuracy", "entity_f1_clean", "entity_f1_noise_0.1"):
        assert selected.values()[metric] >= plain.values()[metric] - 0.02


def test_the_result_says_how_parts_were_chosen_and_what_the_composition_gains_over_the_best(
    selected: Evaluation,
) -> None:
    for probe, choice in selected.choices.items():
        assert choice["chosen"]["parts"] == [
            row["component"] for row in selected.tables["parts"] if row["probe"] == probe and row["read"]
        ]
        assert (choice["validation_documents"], choice["validation_groups"]) == (220, 3)
        assert choice["candidates"][0]["loss"] <= choice["chosen"]["loss"] <= choice["parts"]["size-1"]["alone"]
        assert {"clean", "noise_0.1"} < choice["chosen"].keys()
    rows = {(row["metric"], row["set"], row["part"]): row for row in selected.tables["alone"]}
    assert {key[:2] for key in rows} == {
        *(("entity_f1", name) for name in ("clean", "noise_0.1")),
        *(("label_accuracy", name) for name in ("test", "noise_0.1")),
    }
    assert len(rows) == 4 * 3
    metrics = selected.metrics
    for name in ("entity_f1_clean", "entity_f1_noise_0.1", "label_accuracy", "label_accuracy_noise_0.1"):
        gain = metrics[f"gain/{name}"]
        assert gain.interval is not None and gain.interval[1] >= 0 and gain.better == "higher"
    assert metrics["worse_than_best_part"].value == 0


def test_columns_are_empty_if_the_fusion_mixes_features() -> None:
    base = embedder(SHAPE)
    parts = [over(base, "one"), over(base, "two")]
    joined = ComposedModel(base, parts)
    width = parts[0].width
    assert joined.columns == {"one": slice(0, width), "two": slice(width, joined.width)}
    assert ComposedModel(base, parts, fusion="weighted_sum").columns == {}


def test_contributions_are_skipped_with_a_reason_if_the_fusion_mixes_features(corpus: EncodedCorpus) -> None:
    class Mixed(FakeComposition):
        """A composition whose fusion mixes features."""

        columns = {}  # noqa: RUF012

    result = evaluate(Mixed(corpus.preprocessor), corpus)
    assert contributions(result) == {} and "mixes" in result.skipped["contributions"]
