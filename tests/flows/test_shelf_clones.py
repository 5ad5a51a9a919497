"""What the pipeline made, published on a shelf: another clone fetches it by its tag, without the pipeline's outputs."""

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
    for who in ("AUTHOR", "COMMITTER"):
        done.environment.update({f"GIT_{who}_NAME": "test", f"GIT_{who}_EMAIL": "test@example.invalid"})
    done.environment.update({"TOY_MODEL": str(model), "CCLM_SHELF": shelf})
    done.dvc("remote", "add", "-d", "storage", storage)
    cclm(done, "shelf", "create", shelf, "--remote", storage)  # one storage serves both: it goes by content
    made = {}
    for tag, width in (("v1", 8), ("v2", 9)):
        done.params(lambda values, width=width: values["components"]["a"].update(width=width))  # type: ignore[misc]
        done.dvc("repro")
        commit(done)
        cclm(done, "push")
        cclm(done, "shelf", "publish", "models/a", "a", "component", "--licence", "Apache-2.0", "--tag", tag)
        made[tag] = files(done.root / "models/a")
    assert made["v1"] != made["v2"]

    other = Toy(tmp_path / "other")
    subprocess.run(["git", "clone", "-q", done.root, other.root], check=True)
    shutil.rmtree(done.root)  # the shelf and the storage are enough; the clone's own repository as well
    other.environment.update({"CCLM_SHELF": shelf})
    for tag, there in made.items():
        fetched: dict[str, Any] = json.loads(cclm(other, "shelf", "fetch", "a", "component", tag, "--json").stdout)
        assert files(other.root / fetched["folder"]) == there and not (other.root / "models").exists()
        # Its card names the commit that made it, at which the clone gets all the outputs beside it.
        card = json.loads(cclm(other, "shelf", "show", "a", "component", "--tag", tag, "--json").stdout)["card"]
        other.run("git", "checkout", "-q", card["created_by"])
        other.dvc("pull")
        assert files(other.root / "models/a") == there
        shutil.rmtree(other.root / "models")
        other.run("git", "checkout", "-q", ".")
