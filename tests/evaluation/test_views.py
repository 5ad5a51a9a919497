"""Contributions: leaving a component out gives the metrics of a composition that never had it."""

import pytest
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation import EvaluationConfig, evaluate_composition
from cclm_core.evaluation.reading import Composed
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.views import leave_one_out
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
        (view,) = (view for view in leave_one_out(self.width, super().columns) if view.left_out == left_out)
        self.view, self.width = view, len(view.columns)

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
