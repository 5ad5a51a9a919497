"""What a component adds: the figures without it are those of a composition that never had it."""

import pytest
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.evaluation.evaluator import evaluate_composition
from cclm_core.evaluation.views import leaving_one_out
from cclm_core.runtime.reporting import silent
from tests.composition.nests import over
from tests.encoders.shapes import SMALL as SHAPE
from tests.encoders.shapes import embedder
from tests.evaluation.stand_ins import SMALL, Stand, clean_set, encode, records


class Rest(Stand):
    """The stand-in without the features of one kernel."""

    def __init__(self, preprocessor, left_out):
        super().__init__(preprocessor)
        (view,) = (view for view in leaving_one_out(self.width, super().columns) if view.left_out == left_out)
        self.view, self.width = view, len(view.columns)

    columns = {"rest": slice(0, 64)}  # noqa: RUF012

    def forward(self, ids: Tensor) -> Tensor:
        whole, self.width = self.width, 96
        try:
            return self.view.of(super().forward(ids))
        finally:
            self.width = whole


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("corpus"), records())


@pytest.fixture(scope="module")
def whole(corpus):
    return evaluate_composition(Stand(corpus.preprocessor), corpus, [clean_set(records())], SMALL, 1, silent)


def test_leaving_out_is_what_evaluating_the_rest_alone_gives(whole, corpus):
    rest = evaluate_composition(Rest(corpus.preprocessor, "size-7"), corpus, [clean_set(records())], SMALL, 1, silent)
    assert set(whole.without) == {"size-1", "size-3", "size-7"} and rest.without == {} and rest.skipped == {}
    for name, figure in whole.without["size-7"].items():
        assert figure == pytest.approx(rest.metrics[name], abs=0.01), name
    # Masked characters show only in their neighbours: the widest kernel is what tells them.
    assert whole.without["size-7"]["bits_per_masked_character"] > whole.metrics["bits_per_masked_character"] + 0.1


def test_a_contribution_is_how_much_worse_it_gets_whichever_way_is_better(whole):
    rows = {(row["component"], row["metric"]): row for row in whole.contributions()}
    assert len(rows) == 9
    for (name, metric), row in rows.items():
        worse = row["without"] - row["whole"]
        assert row["contribution"] == (worse if metric == "bits_per_masked_character" else -worse)
        assert row["whole"] == whole.metrics[metric] and row["without"] == whole.without[name][metric]


def test_the_whole_is_measured_the_same_whether_or_not_components_are_left_out(whole, corpus):
    config = SMALL.model_copy(update={"contributions": False})
    plain = evaluate_composition(Stand(corpus.preprocessor), corpus, [clean_set(records())], config, 1, silent)
    assert plain.metrics == whole.metrics and plain.without == {} and plain.skipped == {}


def test_columns_are_those_of_the_parts_and_none_where_they_are_mixed():
    base = embedder(SHAPE)
    parts = [over(base, "one"), over(base, "two")]
    joined = ComposedModel(base, parts)
    width = parts[0].width
    assert joined.columns == {"one": slice(0, width), "two": slice(width, joined.width)}
    assert ComposedModel(base, parts, fusion="weighted_sum").columns == {}


def test_a_fusion_that_mixes_says_why_there_are_no_contributions(corpus):
    class Mixed(Stand):
        columns = {}  # noqa: RUF012

    result = evaluate_composition(Mixed(corpus.preprocessor), corpus, [clean_set(records())], SMALL, 1, silent)
    assert result.without == {} and "mixes" in result.skipped["contributions"]
