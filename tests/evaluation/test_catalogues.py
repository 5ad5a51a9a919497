"""Contract tests for all probes and baselines in the catalogues."""

from pathlib import Path
from typing import get_args

import pytest

from cclm_core.evaluation import EvaluationConfig
from cclm_core.evaluation.baselines.base import CharacterBaseline, LabelBaseline, TagBaseline
from cclm_core.evaluation.baselines.catalogue import AnyBaseline
from cclm_core.evaluation.probe import Context, NotMeasurable, Probe
from cclm_core.evaluation.probes.catalogue import DEFAULT_PROBES, AnyProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.views import Parts
from cclm_core.runtime.errors import ConfigError
from tests.evaluation.fakes import SMALL, FakeComposition, clean_set, encode, make_records

PROBES: dict[str, AnyProbe] = {member.probe: member for member in DEFAULT_PROBES}
BASELINES: tuple[type[AnyBaseline], ...] = get_args(AnyBaseline)


def build_context(folder: Path) -> Context:
    records = make_records(sizes=(60, 20, 20))
    corpus = encode(folder, records)
    reader = Reader(FakeComposition(corpus.preprocessor), 4096, 1024)
    baselines: dict[str, object] = {config.baseline: config.build(corpus) for config in SMALL.baselines}
    return Context(reader, corpus, [clean_set(records)], (), Parts(reader.width), baselines, 1)


@pytest.mark.parametrize("name", PROBES)
def test_probe_metrics_have_a_direction_and_documents(name: str, tmp_path: Path) -> None:
    context = build_context(tmp_path)
    config = next((config for config in SMALL.probes if config.probe == name), PROBES[name])
    probe = config.build(context)
    assert isinstance(probe, Probe)
    probe.fit()
    encoded = [context.corpus.preprocessor.encode(text) for text in context.test_sets[0].texts]
    scorer = probe.scorer(context.test_sets[0], encoded)
    results = [probe.measure()]
    if scorer:
        for piece in context.reader.pieces(encoded):
            scorer.add(piece)
        results.append(scorer.result())
        assert isinstance(scorer.example(0), dict)
    metrics = {key: metric for result in results for key, metric in result.metrics.items()}
    assert metrics and any(metric.headline for metric in metrics.values())
    for metric in metrics.values():
        assert metric.better in ("higher", "lower") and 2 <= len(metric.statistics) <= 20
    for result in results:
        for baseline in result.baselines.values():
            assert baseline.keys() <= result.metrics.keys()


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_names_what_is_missing_in_an_empty_corpus(name: str, tmp_path: Path) -> None:
    records = [record for record in make_records(sizes=(10, 5, 5)) if record.split == "train"]
    corpus = encode(tmp_path, records)
    context = Context(Reader(FakeComposition(corpus.preprocessor), 64, 64), corpus, [clean_set(records)], (), [], {}, 1)
    with pytest.raises(NotMeasurable, match=r"split|document|entities"):
        PROBES[name].build(context).fit()


@pytest.mark.parametrize("member", BASELINES)
def test_every_baseline_matches_a_probe(member: type[AnyBaseline], tmp_path: Path) -> None:
    corpus = encode(tmp_path, make_records(sizes=(10, 5, 5)))
    baseline = member().build(corpus)
    assert isinstance(baseline, CharacterBaseline | TagBaseline | LabelBaseline)


def test_every_member_is_evaluated_by_default() -> None:
    assert [config.probe for config in EvaluationConfig().probes] == list(PROBES)
    assert [type(config) for config in EvaluationConfig().baselines] == list(BASELINES)


def test_repeated_and_unknown_members_are_rejected() -> None:
    with pytest.raises(ConfigError, match="probes must not contain a name twice, got tags"):
        EvaluationConfig.parse({"probes": [{"probe": "tags"}, {"probe": "tags"}]}, "evaluation")
    with pytest.raises(ConfigError, match=r"probe must be one of .*got 'classes'; did you mean 'labels'"):
        EvaluationConfig.parse({"probes": [{"probe": "classes"}]}, "evaluation")
    with pytest.raises(ConfigError, match="did you mean 'train_documents'"):
        EvaluationConfig.parse({"probes": [{"probe": "labels", "train_document": 1}]}, "evaluation")
