"""A composition needs only the components in its `parts`, although its DVC dependency is their whole folder."""

from typing import Any

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.graph.plan import read_plan
from flows.graph.selection import refuse_stale_before, submission_order, with_dependents
from flows.run.status import NOTHING, RECOMPOSE, RUN, read_status
from flows.tracking.records import read_record
from tests.flows.conftest import Drive, Toy

SOLO = {"parts": ["a"], "untrained": False}
ALL = {"parts": ["a", "b", "c"], "untrained": False}


def widen(values: dict[str, Any]) -> None:
    """Adds a third component, a composition without it, and one with all three."""
    values["components"]["c"] = {"width": 3, "seconds": 0.5}
    values["compositions"] |= {"solo": SOLO, "trio": ALL}


@pytest.fixture
def wide(project: Toy) -> Toy:
    """A toy project with three components and three compositions, in which nothing has run."""
    project.params(widen)
    return project


@pytest.fixture(scope="session")
def composed_template(reproduced: Any, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    project = Toy(reproduced).copy(tmp_path_factory.mktemp("composed") / "project")
    project.params(widen)
    project.dvc("repro")
    return project


@pytest.fixture
def composed(composed_template: Toy, tmp_path: Any) -> Toy:
    """The same project, up to date."""
    return composed_template.copy(tmp_path / "composed")


def outcomes(summary: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in summary["stages"]}


def test_a_composition_needs_only_its_parts(wide: Toy) -> None:
    nodes = read_plan(wide, changes=False).nodes
    solo = nodes["compose@solo"]
    assert solo.needs == ("train@a",)
    assert solo.shares == ("train@b", "train@c")
    assert solo.deps == ("models/a",) and solo.folders == ("models",)
    assert nodes["compose@trio"].needs == ("train@a", "train@b", "train@c") and nodes["compose@trio"].shares == ()
    assert nodes["train@a"].folders == ()


def test_a_part_that_no_stage_produces_is_refused(wide: Toy) -> None:
    wide.params(lambda values: values["compositions"]["solo"].update(parts=["aa"]))
    with pytest.raises(ConfigError, match=r"compose@solo has the part aa, but no stage produces models/aa; did you"):
        read_plan(wide, changes=False)
    (wide.root / "models/aa").mkdir(parents=True)  # a component from another project
    assert read_plan(wide, changes=False).nodes["compose@solo"].needs == ()


def test_a_target_trains_only_its_parts(wide: Toy, drive: Drive) -> None:
    assert outcomes(drive(wide, ["compose@solo"])) == {"make": "ran", "train@a": "ran", "compose@solo": "ran"}
    assert not (wide.root / "models/b").exists()


def test_a_failed_component_blocks_only_the_compositions_that_contain_it(wide: Toy, drive: Drive) -> None:
    wide.params(lambda values: values["components"]["c"].update(fail=2))
    results = outcomes(drive(wide))
    assert results["train@c"] == "failed"
    assert {name for name, outcome in results.items() if outcome == "not run"} == {"compose@trio", "evaluate@trio"}
    assert {results[name] for name in ("compose@solo", "evaluate@solo", "compose@both", "evaluate@both")} == {"ran"}


def test_a_composition_without_the_changed_component_is_composed_but_not_evaluated_again(
    composed: Toy, drive: Drive
) -> None:
    before = composed.digests()
    evaluated = read_record(composed, "evaluate@solo")
    composed.params(lambda values: values["components"]["c"].update(width=9))
    stale = read_plan(composed).stale()
    assert stale["compose@solo"] == ("after train@c, not one of its parts",)
    assert "evaluate@solo" not in stale and "evaluate@trio" in stale
    results = outcomes(drive(composed))
    assert [results[name] for name in ("train@c", "compose@solo", "compose@trio")] == ["ran"] * 3
    assert [results[name] for name in ("evaluate@solo", "evaluate@both")] == ["unchanged"] * 2
    assert read_record(composed, "evaluate@solo") == evaluated
    changed = {path for path, digest in composed.digests().items() if digest != before[path]}
    assert changed == {"models/c", "compositions/trio"}
    assert "Data and pipelines are up to date." in composed.dvc("status").stdout


def test_the_status_explains_why_a_composition_recomposes(composed: Toy) -> None:
    composed.params(lambda values: values["components"]["c"].update(width=9))
    composed.dvc("repro", "-q", "-s", "train@c")
    rows = {row.stage: row for row in read_status(composed).stages}
    assert {name: rows[name].run_would for name in ("compose@solo", "evaluate@solo", "compose@trio")} == {
        "compose@solo": RECOMPOSE,
        "evaluate@solo": NOTHING,
        "compose@trio": RUN,
    }
    assert rows["compose@solo"].why == ("models modified", "none of its parts changed, so it is not evaluated again")
    composed.params(lambda values: values["compositions"]["solo"].update(untrained=True))
    assert {row.stage: row.run_would for row in read_status(composed).stages}["compose@solo"] == RUN


@pytest.mark.slow
def test_both_drivers_agree(wide: Toy, composed: Toy, drive: Drive) -> None:
    drive(wide)
    assert wide.digests() == composed.digests()
    assert "Data and pipelines are up to date." in wide.dvc("status").stdout


def test_retraining_evaluates_only_compositions_that_contain_the_component(composed: Toy) -> None:
    plan = read_plan(composed, changes=False)
    nodes = with_dependents(plan, "train@c")
    assert list(nodes) == ["train@c", "compose@both", "compose@solo", "compose@trio", "evaluate@trio"]
    refuse_stale_before(plan, nodes)


def test_stages_that_share_a_folder_are_submitted_last(wide: Toy) -> None:
    nodes = read_plan(wide, changes=False).nodes
    order = submission_order(nodes)
    assert order[:4] == ["make", "train@a", "train@b", "train@c"]
    assert set(order) == set(nodes)
    assert all(order.index(need) < order.index(name) for name in order for need in nodes[name].needs)
