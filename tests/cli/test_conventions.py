"""What all commands share: help, examples, `--version`, `-h`, exit codes, shell completion."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cclm_core
from cclm_core.cli.app import app
from cclm_core.cli.conventions import EXIT_CODES, PANELS
from tests.cli.commands import commands, complete, examples, parse
from tests.cli.test_cli import run


def test_version_and_short_help() -> None:
    assert run("--version").stdout == f"cclm {cclm_core.__version__}\n"
    assert run("shelf", "list", "-h").stdout == run("shelf", "list", "--help").stdout


def test_the_help_lists_commands_by_group_and_the_exit_codes() -> None:
    text = run("--help").stdout
    shown = [panel for panel in PANELS if f"─ {panel} ─" in text]
    assert len(shown) >= 4 and shown == sorted(shown, key=text.index)
    flat = " ".join(re.sub(r"[│╭╰─╯]", " ", text).split())
    assert all(f"{code} {meaning}" in flat for code, meaning in EXIT_CODES.items())


def test_every_command_for_people_has_examples_that_parse() -> None:
    shown = {name for name, words in examples(app) if parse(app, words) == name}
    assert shown == {name for name, _ in commands(app) if not name.startswith("stage ")}


@pytest.mark.parametrize("columns", ["40", "200"])
def test_help_fits_the_terminal_and_has_no_color_in_a_pipe(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = run("export", "--help").stdout
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= int(columns)


def test_a_missing_permission_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    process = run("config", "init", "file/params.yaml", cwd=tmp_path)
    assert (process.returncode, "Traceback" in process.stderr) == (1, False)
    assert process.stderr.startswith("error: Not a directory: ")


def test_every_kind_of_noise_as_json() -> None:
    result = CliRunner().invoke(app, ["noise", "a short text", "--every-kind", "--json"], catch_exceptions=False)
    kinds = json.loads(result.output)
    assert {"kind", "example", "effect"} == set(kinds[0]) and "swap" in [kind["kind"] for kind in kinds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with names to complete."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "dvc.yaml").write_text(
        "stages:\n  ingest: {cmd: true}\n  pretrain: {foreach: '${components}', do: {cmd: true}}\n"
    )
    (folder / "params.yaml").write_text(
        "seed: 1\ncomponents: {entities: {encoder: {width: 8}}, edges: {}}\n"
        "compositions: {full: {}}\ntasks: {tickets: {}}\nensembles: {both: {}}\n"
    )
    (folder / "deeper").mkdir()
    return folder


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cclm predict ", ["tickets", "both"]),
        ("cclm embed f", ["full"]),
        ("cclm embed ", ["full", "tickets", "both", "base"]),
        ("cclm stage pretrain e", ["entities", "edges"]),
        ("cclm config show components.entities.", ["components.entities.encoder."]),
        ("cclm shelf show name em", ["embedder"]),
        ("cclm predict nothing", []),
    ],
)
def test_the_shell_completes_names(line: str, offered: list[str], folder: Path) -> None:
    assert complete(app, line, folder / "deeper") == offered


def test_completion_offers_nothing_outside_a_project_and_for_a_damaged_file(tmp_path: Path) -> None:
    assert complete(app, "cclm predict ", tmp_path) == []
    (tmp_path / "dvc.yaml").write_text("stages: []\n")
    (tmp_path / "params.yaml").write_text("tasks: {a: ")
    assert complete(app, "cclm predict ", tmp_path) == []
