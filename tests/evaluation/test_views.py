"""What a component adds: the figures without it are those of a composition that never had it."""

import pytest
from torch import Tensor

from cclm_core.composition.composed import ComposedModel
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation import evaluate_composition
from cclm_core.evaluation.result import Evaluation
from cclm_core.evaluation.views import leave_one_out
from cclm_core.runtime.reporting import silent
from cclm_core.text.vocabulary import Preprocessor
from tests.composition.nests import over
from tests.encoders.shapes import SMALL as SHAPE
from tests.encoders.shapes import embedder
from tests.evaluation.stand_ins import SMALL, Stand, clean_set, encode, records


class Rest(Stand):
    """The stand-in without the features of one kernel."""

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
    return encode(tmp_path_factory.mktemp("corpus"), records())


@pytest.fixture(scope="module")
def full_view(corpus: EncodedCorpus) -> Evaluation:
    return evaluate_composition(Stand(corpus.preprocessor), corpus, [clean_set(records())], SMALL, 1, silent)


def without(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, float]]:
    """The rows of the table of contributions, by component and metric."""
    return {(row["component"], row["metric"]): row for row in evaluation.tables.get("contribution", [])}


def test_leaving_out_is_what_evaluating_the_rest_alone_gives(whole: Evaluation, corpus: EncodedCorpus) -> None:
    rest = evaluate_composition(Rest(corpus.preprocessor, "size-7"), corpus, [clean_set(records())], SMALL, 1, silent)
    rows = without(whole)
    assert {component for component, _ in rows} == {"size-1", "size-3", "size-7"}
    assert without(rest) == {} and rest.skipped == {}
    for (component, name), row in rows.items():
        if component == "size-7":
            assert row["without"] == pytest.approx(rest.metrics[name].value, abs=0.01), name
    # Masked characters show only in their neighbors: the widest kernel reveals them.
    assert rows["size-7", "bits_per_masked_character"]["contribution"] > 0.1


def test_a_contribution_is_how_much_worse_it_gets_whichever_way_is_better(whole: Evaluation) -> None:
    rows = without(whole)
    assert len(rows) == 9
    for (component, metric), row in rows.items():
        worse = row["without"] - row["whole"]
        assert row["contribution"] == pytest.approx(worse if metric == "bits_per_masked_character" else -worse)
        assert row["whole"] == whole.metrics[metric].value
        published = whole.metrics[f"contribution/{component}/{metric}"]
        assert (published.value, published.better) == (row["contribution"], "higher")
        assert published.interval == (row["low"], row["high"]) and row["low"] <= row["contribution"] <= row["high"]


def test_the_whole_is_measured_the_same_whether_or_not_components_are_left_out(
    whole: Evaluation, corpus: EncodedCorpus
) -> None:
    config = SMALL.model_copy(update={"contributions": False})
    plain = evaluate_composition(Stand(corpus.preprocessor), corpus, [clean_set(records())], config, 1, silent)
    assert plain.metrics == {name: one for name, one in whole.metrics.items() if not name.startswith("contribution/")}
    assert without(plain) == {} and plain.skipped == {}


def test_columns_are_those_of_the_parts_and_none_where_they_are_mixed() -> None:
    base = embedder(SHAPE)
    parts = [over(base, "one"), over(base, "two")]
    joined = ComposedModel(base, parts)
    width = parts[0].width
    assert joined.columns == {"one": slice(0, width), "two": slice(width, joined.width)}
    assert ComposedModel(base, parts, fusion="weighted_sum").columns == {}


def test_a_fusion_that_mixes_says_why_there_are_no_contributions(corpus: EncodedCorpus) -> None:
    class Mixed(Stand):
        columns = {}  # noqa: RUF012

    result = evaluate_composition(Mixed(corpus.preprocessor), corpus, [clean_set(records())], SMALL, 1, silent)
    assert without(result) == {} and "mixes" in result.skipped["contributions"]
