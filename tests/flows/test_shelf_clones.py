"""Outputs of the pipeline, published on a shelf: another clone fetches them by tag."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Toy
from tests.flows.test_remotes import cclm, commit


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_component_of_the_pipeline_is_fetched_by_tag_in_another_clone(done: Toy, model: Path, tmp_path: Path) -> None:
    storage, shelf = str(tmp_path / "storage"), str(tmp_path / "shelf")
    for role in ("AUTHOR", "COMMITTER"):
        done.environment.update({f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.invalid"})
    done.environment.update({"TOY_MODEL": str(model), "CCLM_SHELF": shelf})
    done.dvc("remote", "add", "-d", "storage", storage)
    cclm(done, "shelf", "create", shelf, "--remote", storage)  # one storage serves both, because keys are digests
    published = {}
    for tag, width in (("v1", 8), ("v2", 9)):
        done.params(lambda values, width=width: values["components"]["a"].update(width=width))  # type: ignore[misc]
        done.dvc("repro")
        commit(done)
        cclm(done, "push")
        cclm(done, "shelf", "publish", "models/a", "a", "component", "--license", "Apache-2.0", "--tag", tag)
        published[tag] = files(done.root / "models/a")
    assert published["v1"] != published["v2"]

    other = Toy(tmp_path / "other")
    subprocess.run(["git", "clone", "-q", done.root, other.root], check=True)
    shutil.rmtree(done.root)  # shelf, storage and the new clone are enough
    other.environment.update({"CCLM_SHELF": shelf})
    for tag, expected in published.items():
        fetched: dict[str, Any] = json.loads(cclm(other, "shelf", "fetch", "a", "component", tag, "--json").stdout)
        assert files(other.root / fetched["folder"]) == expected and not (other.root / "models").exists()
        # The card names the commit that made the item; there, the clone can pull all other outputs.
        card = json.loads(cclm(other, "shelf", "show", "a", "component", "--tag", tag, "--json").stdout)["card"]
        other.run("git", "checkout", "-q", card["created_by"])
        other.dvc("pull")
        assert files(other.root / "models/a") == expected
        shutil.rmtree(other.root / "models")
        other.run("git", "checkout", "-q", ".")
