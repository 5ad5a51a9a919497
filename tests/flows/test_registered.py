"""Registered models as folders: names, aliases, and a version that this project has registered."""

from pathlib import Path

import pytest

from cclm_core.composition.store import load_composition
from cclm_core.runtime.errors import ConfigError
from flows.gate.registry import CANDIDATE, Registry, model_name
from flows.gate.seal import DIGEST_TAG
from flows.registered import registered_folder
from flows.tracking.client import connect
from tests.flows.conftest import Toy


@pytest.fixture
def inside(project: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.chdir(project.root)
    for name in ("CCLM_TRACKING", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return project


@pytest.mark.parametrize("name", ["both@best", "both@", "@champion", "../both@champion"])
def test_a_wrong_name_or_alias_is_refused(inside: Toy, name: str) -> None:  # noqa: ARG001
    with pytest.raises(
        ConfigError, match=r"a model must be NAME, NAME@ALIAS .* Aliases are champion, candidate, previous"
    ):
        registered_folder(name).__enter__()


def test_a_version_is_copied_checked_and_removed(inside: Toy, model: Path) -> None:
    with pytest.raises(ConfigError, match=r"cclm-both has no version with the alias candidate"):
        registered_folder("both@candidate").__enter__()
    tracking = connect(inside)
    run = tracking.client.create_run(tracking.experiment_id).info.run_id
    digest = load_composition(model).digest
    registry = Registry(tracking)
    version = registry.register(run, model_name("both"), model, {}, {DIGEST_TAG: digest})
    registry.set_alias(model_name("both"), CANDIDATE, version.number)
    with registered_folder("both@candidate") as folder:
        assert load_composition(folder).digest == digest
    assert not folder.exists()
