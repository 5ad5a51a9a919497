"""The contracts of probes and baselines, over their whole catalogues."""

from pathlib import Path
from typing import get_args

import pytest

from cclm_core.evaluation import EvaluationConfig
from cclm_core.evaluation.baselines.base import CharacterBaseline, LabelBaseline, TagBaseline
from cclm_core.evaluation.baselines.catalogue import AnyBaseline
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe
from cclm_core.evaluation.probes.catalogue import AnyProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.views import full_view
from cclm_core.runtime.errors import ConfigError
from tests.evaluation.stand_ins import SMALL, Stand, clean_set, encode, records

PROBES: dict[str, AnyProbe] = {member.model_fields["probe"].default: member() for member in get_args(AnyProbe)}
BASELINES: tuple[type[AnyBaseline], ...] = get_args(AnyBaseline)


def context(folder: Path) -> Context:
    some = records(sizes=(60, 20, 20))
    corpus = encode(folder, some)
    reader = Reader(Stand(corpus.preprocessor), 4096, 1024)
    baselines: dict[str, object] = {one.baseline: one.build(corpus) for one in SMALL.baselines}
    return Context(reader, corpus, [clean_set(some)], (), [full_view(reader.width)], baselines, 1)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_measures_something_that_has_a_direction_and_documents(name: str, tmp_path: Path) -> None:
    made = context(tmp_path)
    config = next((one for one in SMALL.probes if one.probe == name), PROBES[name])
    probe = config.build(made)
    assert isinstance(probe, Probe)
    probe.fit()
    encoded = [made.corpus.preprocessor.encode(text) for text in made.test_sets[0].texts]
    scorer = probe.scorer(made.test_sets[0], encoded)
    figures = [probe.measure()]
    if scorer:
        for piece in made.reader.pieces(encoded):
            scorer.add(piece)
        figures.append(scorer.result())
        assert isinstance(scorer.example(0), dict)
    metrics = {key: metric for one in figures for key, metric in one.metrics.items()}
    assert metrics and any(metric.headline for metric in metrics.values())
    for metric in metrics.values():
        assert metric.better in ("higher", "lower") and 2 <= len(metric.statistics) <= 20
    for one in figures:
        for other in one.baselines.values():
            assert other.keys() <= one.metrics.keys()


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_says_what_an_empty_corpus_lacks(name: str, tmp_path: Path) -> None:
    some = [record for record in records(sizes=(10, 5, 5)) if record.split == "train"]
    corpus = encode(tmp_path, some)
    made = Context(Reader(Stand(corpus.preprocessor), 64, 64), corpus, [clean_set(some)], (), [], {}, 1)
    with pytest.raises(NotMeasurable, match=r"split|document|entities"):
        PROBES[name].build(made).fit()


@pytest.mark.parametrize("member", BASELINES)
def test_a_baseline_predicts_what_one_of_the_probes_predicts(member: type[AnyBaseline], tmp_path: Path) -> None:
    corpus = encode(tmp_path, records(sizes=(10, 5, 5)))
    built = member().build(corpus)
    assert isinstance(built, CharacterBaseline | TagBaseline | LabelBaseline)


def test_every_member_is_evaluated_by_default() -> None:
    assert [one.probe for one in EvaluationConfig().probes] == list(PROBES)
    assert [type(one) for one in EvaluationConfig().baselines] == list(BASELINES)


def test_a_member_twice_or_an_unknown_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="probes must contain each member at most once, got more of: tags"):
        EvaluationConfig.parse({"probes": [{"probe": "tags"}, {"probe": "tags"}]}, "evaluation")
    with pytest.raises(ConfigError, match=r"probe must be one of .*got 'classes'; did you mean 'labels'"):
        EvaluationConfig.parse({"probes": [{"probe": "classes"}]}, "evaluation")
    with pytest.raises(ConfigError, match="did you mean 'train_documents'"):
        EvaluationConfig.parse({"probes": [{"probe": "labels", "train_document": 1}]}, "evaluation")
