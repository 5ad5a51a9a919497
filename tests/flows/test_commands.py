"""The command `cclm`: every command has examples, `--json` where it prints results, and completion of names."""

from pathlib import Path

import pytest

from cclm_core.cli.conventions import PANELS
from cclm_core.runtime.config import load_yaml
from flows.cli import app
from tests.cli.commands import commands, complete, examples, parse

ROOT = Path(__file__).parents[2]
COMPONENTS = tuple(load_yaml(ROOT / "params.yaml")["components"])

WITHOUT_JSON = {
    "config init": "writes a file",
    "embed": "prints JSON lines",
    "init": "writes a file",
    "predict": "prints JSON lines",
    "serve": "a server",
    "ui": "a server",
}


def test_every_command_for_people_has_a_group_and_examples_that_parse() -> None:
    shown = {name for name, words in examples(app) if parse(app, words) == name}
    assert shown == {name for name, _ in commands(app) if not name.startswith("stage ")}
    assert {command.rich_help_panel for name, command in commands(app) if " " not in name} <= set(PANELS)


def test_every_command_that_prints_results_prints_them_as_json() -> None:
    people = {name: command for name, command in commands(app) if not name.startswith("stage ")}
    without = {name for name, command in people.items() if all("--json" not in param.opts for param in command.params)}
    assert without == WITHOUT_JSON.keys()


def test_the_page_of_all_commands_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from generate import commands_page

    assert (ROOT / "docs/commands.md").read_text("utf-8") == commands_page(), "run `make docs` and commit the page"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages and parameters of the repository."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (
            "cclm run --target pre",
            {"pretrain", *(f"pretrain@{name}" for name in COMPONENTS)},
        ),
        ("cclm run --target=evaluate@fu", {"@full"}),
        ("cclm run --force pretrain@", {f"@{name}" for name in COMPONENTS}),
        ("cclm run --set components.ent", {"components.entities."}),
        ("cclm retrain e", {"entities"}),
        ("cclm promote --accept f", {"full"}),
        ("cclm compare full l", {"language"}),
        ("cclm lineage ent", {"entities"}),
    ],
)
def test_the_shell_completes_stages_and_names(line: str, offered: set[str], folder: Path) -> None:
    assert set(complete(app, line, folder)) == offered
