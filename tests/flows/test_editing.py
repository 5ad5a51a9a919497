"""`cclm add` and `cclm remove`: what they write, what they refuse, and that comments stay."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError
from flows.graph.entry_text import with_entry, with_item, without_entry, without_item
from flows.project import Project
from flows.run.editing import add, remove

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The pipeline of this repository, without its code."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("input", "blocks", "misspellings", ".git"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    return Project(tmp_path)


def texts(project: Project) -> tuple[str, str]:
    return project.params_file.read_text(), (project.root / "dvc.yaml").read_text()


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_adding_and_removing_restores_every_byte(project: Project) -> None:
    before = texts(project)
    edit = add(project, "component", "words", {"task": {"objective": "characters"}, "training.steps": 9}, "characters")
    assert load_yaml(project.params_file)["components"]["words"] == {
        "task": {"objective": "characters"},
        "training": {"steps": 9, "batch_size": 32, "window": 256, "threads": 1},
    }
    assert "params.yaml: added components.words" in edit.changes[0] and "words,..." in edit.next
    add(project, "composition", "four", {"parts": ["words", "entities"], "fusion": {"kind": "attention"}})
    added = texts(project)
    assert comments(added[0]) == comments(before[0]) and added[1] == before[1]
    assert "  four: {parts: [words, entities], fusion: {kind: attention}}\n\n# How every" in added[0]
    with pytest.raises(ConfigError, match=r"components\.words is used by compositions\.four"):
        remove(project, "component", "words")
    remove(project, "composition", "four")
    remove(project, "component", "words")
    assert texts(project) == before


def test_removing_also_removes_what_dvc_yaml_names_and_moves_the_outputs(project: Project) -> None:
    for out in ("models/compositions/full/x", "results/full/y", "models/compositions/language/x"):
        (project.root / out).parent.mkdir(parents=True, exist_ok=True)
        (project.root / out).write_text("content")
    edit = remove(project, "composition", "full")
    assert "full" not in load_yaml(project.params_file)["compositions"]
    assert list(load_yaml(project.root / "dvc.yaml")["artifacts"]) == ["base"]
    assert set(edit.moved) == {"models/compositions/full", "results/full"}
    assert (project.root / edit.moved["results/full"] / "y").read_text() == "content"
    assert not (project.root / "results/full").exists() and (project.root / "models/compositions/language").exists()
    assert comments(texts(project)[0]) == comments((ROOT / "params.yaml").read_text())


def test_a_task_needs_labeled_data_and_protects_its_composition(project: Project) -> None:
    (project.root / "input/t.csv").write_text("text,label\na,b\n")
    source = "{kind: files, paths: input/t.csv, columns: {text: text, label: label}}"
    labeled = f"{{task: classify, source: {source}, test: {{share: 0.2}}}}"
    path = project.params_file
    path.write_text(path.read_text().replace("labeled: {}", f"labeled:\n  tickets: {labeled}"))
    with pytest.raises(ConfigError, match=r"'tikets' not found in labeled; did you mean 'tickets'"):
        add(project, "task", "topics", {"data": "tikets"})
    add(project, "task", "topics", {"data": "tickets", "composition": "language"})
    assert "tasks:\n  topics: {data: tickets, composition: language}\n" in path.read_text()
    with pytest.raises(ConfigError, match=r"compositions\.language is used by tasks\.topics"):
        remove(project, "composition", "language")
    remove(project, "task", "topics")
    assert "tasks: {}\n" in path.read_text()


def test_labeled_files_are_recognized_and_tasks_on_them_are_joined(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = texts(project)
    folder = tmp_path_factory.mktemp("mail")
    rows = [f"where is order {n},{('order', 'card')[n % 2]}" for n in range(60)]
    (folder / "mail.csv").write_text("\n".join(["body,reason", *rows]) + "\n")
    monkeypatch.chdir(folder)
    command = [sys.executable, "-m", "flows.cli", "add", "labeled", "mail", str(folder / "mail.csv")]
    run = partial(subprocess.run, cwd=project.root, capture_output=True, text=True, check=False)
    refused = run([*command, "--label", "raeson"])
    assert refused.returncode == 2 and "raeson" in refused.stderr and texts(project) == before
    assert not (project.root / "input/mail.csv").exists()
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "input/mail.csv: copied\nmail: classify, columns text: body, label: reason; texts: " in done.stdout
    assert "Next: `cclm add task NEW --data mail" in done.stdout
    entry = load_yaml(project.params_file)["labeled"]["mail"]
    assert entry["source"]["paths"] == ["input/mail.csv"] and entry["test"] == {"share": 0.2}
    add(project, "task", "mail_net", {"data": "mail", "composition": "full"})
    add(project, "task", "mail_ngrams", {"data": "mail", "model": "ngrams"})
    edit = add(project, "ensemble", "mail_all", {"parts": ["mail_net", "mail_ngrams"]})
    assert "measure@mail_all" in edit.next
    with pytest.raises(ConfigError, match=r"labeled\.mail is used by tasks\.mail_net, tasks\.mail_ngrams"):
        remove(project, "labeled", "mail")
    with pytest.raises(ConfigError, match=r"tasks\.mail_net is used by ensembles\.mail_all"):
        remove(project, "task", "mail_net")
    for kind, name in (("ensemble", "mail_all"), ("task", "mail_net"), ("task", "mail_ngrams"), ("labeled", "mail")):
        remove(project, kind, name)
    assert texts(project) == before and (project.root / "input/mail.csv").is_file()


@pytest.mark.parametrize(
    ("kind", "name", "entry", "message"),
    [
        ("component", "entities", {"task": {"objective": "entities"}}, r"components\.entities exists"),
        ("component", "my words", {"task": {"objective": "entities"}}, r"got 'my words'; for example my_words"),
        ("component", "Entities", {"task": {"objective": "entities"}}, r"differ in more than upper and lower case"),
        ("component", "w", {"task": {"objective": "entitys"}}, r"got 'entitys'; did you mean 'entities'"),
        ("component", "w", {}, r"components\.w: task is missing"),
        ("component", "w", {"task": {"objective": "entities"}, "training.stesp": 1}, r"did you mean 'steps'"),
        ("composition", "w", {"parts": ["entitees"]}, r"'entitees' not found in components; did you mean 'entities'"),
        ("composition", "w", {"parts": ["entities"], "fusion": {"kind": "atention"}}, r"did you mean 'attention'"),
        ("ensemble", "w", {"parts": ["nothing"]}, r"'nothing' not found in tasks"),
        ("task", "full", {"data": "x"}, r"compositions\.full and tasks\.full have the same name"),
    ],
)
def test_what_is_invalid_is_refused_and_nothing_is_written(
    project: Project, kind: str, name: str, entry: dict[str, Any], message: str
) -> None:
    before = texts(project)
    with pytest.raises(ConfigError, match=message):
        add(project, kind, name, entry)
    assert texts(project) == before and sorted(path.name for path in project.root.glob(".*.draft")) == []


def test_the_command_prints_what_changed_and_what_is_next(project: Project) -> None:
    command = [sys.executable, "-m", "flows.cli", "add", "composition", "pair", "--parts", "entities, characters"]
    run = partial(subprocess.run, cwd=project.root, capture_output=True, text=True, check=False)
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "params.yaml: added compositions.pair: {parts: [entities, characters]}\n"
        "Next: `cclm run --target evaluate@pair` composes and measures it.\n"
    )
    again = run(command)
    assert again.returncode == 2 and "compositions.pair exists" in again.stderr
    removed = json.loads(run([*command[:3], "remove", "composition", "pair", "--json"]).stdout)
    assert removed["changes"] == ["params.yaml: removed compositions.pair"]


def test_an_unknown_name_is_refused_with_the_nearest(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"components\.entitis not found; did you mean 'entities'"):
        remove(project, "component", "entitis")
    with pytest.raises(ConfigError, match=r"components\.caracters not found; did you mean 'characters'"):
        add(project, "component", "w", {"task": {"objective": "entities"}}, like="caracters")


def test_names_listed_in_dvc_yaml_are_changed_too(project: Project) -> None:
    path = project.root / "dvc.yaml"
    names = f"[{', '.join(load_yaml(project.root / 'params.yaml')['components'])}]"
    start, middle, end = path.read_text().partition("foreach: ${components}")
    pretrain, separator, others = end.partition("# DVC cannot")
    listed = f"{start}foreach: {names}{pretrain.replace('${key}', '${item}')}{separator}{others}"
    assert middle and separator
    path.write_text(listed)
    edit = add(project, "component", "words", {"task": {"objective": "characters"}})
    assert "dvc.yaml: added words to stages.pretrain.foreach" in edit.changes
    assert f"{names[:-1]}, words]" in path.read_text()
    remove(project, "component", "words")
    assert path.read_text() == listed


LAYOUTS = {
    "flow": "s: {a: {x: 1}, b: {x: 2}}  # end\nt: 1\n",
    "block": "# top\ns:  # section\n  # above a\n  a:\n    x: 1  # why\n    # y: 2\n\n  # above b\n  b: {x: 2}\nt: 1",
    "several lines": "s: {\n  a: {x: 1},\n  b: {x: 2}\n  }\nt: 1\n",
    "text block": "s:\n  b: {x: 2}\n  a:\n    x: |\n      one\n      two\n\nt: 1\n",
    "wide": "s:\n      a: 1\n      b: [1,\n        2]\nt: 1\n",
    "last": "t: 1\ns:\n  a: 1\n  b:",
    "empty": "s:  # nothing\nt: 1\n",
    "missing": "t: 1\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_entries_are_added_and_removed_in_every_layout(text: str) -> None:
    values = yaml.safe_load(text)
    added = with_entry(text, "f", "s", "no", {"k": [1]}, spread=True)
    assert yaml.safe_load(added)["s"] == {**(values.get("s") or {}), "no": {"k": [1]}}
    assert comments(added) == comments(text)
    assert yaml.safe_load(without_entry(added, "f", "s", "no"))["s"] == (values.get("s") or {})
    for name in values.get("s") or ():
        removed = without_entry(text, "f", "s", name)
        assert yaml.safe_load(removed)["s"] == {key: value for key, value in values["s"].items() if key != name}
        assert set(comments(text)) - set(comments(removed)) <= {" why", " y: 2"}


def test_shared_values_are_not_changed_by_accident() -> None:
    text = "s:\n  a: &one {x: 1}\n  b: *one\nt: *one\n"
    assert yaml.safe_load(without_entry(text, "f", "s", "b")) == {"s": {"a": {"x": 1}}, "t": {"x": 1}}
    with pytest.raises(ConfigError, match=r"f: s is written in a form .* anchors.*undefined alias"):
        without_entry(text, "f", "s", "a")
    with pytest.raises(ConfigError, match="f: t is written in a form"):
        with_entry(text, "f", "t", "c", {}, spread=False)


@pytest.mark.parametrize("layout", ["[a, b]", "\n      - a\n      - b  # why"])
def test_names_are_added_to_lists_and_removed(layout: str) -> None:
    text = f"stages:\n  x:\n    foreach: {layout}\n    do: 1\n"
    added = with_item(text, "f", "x", "c")
    assert yaml.safe_load(added)["stages"]["x"] == {"foreach": ["a", "b", "c"], "do": 1}
    assert without_item(added, "f", "x", "c") == text
    assert yaml.safe_load(without_item(added, "f", "x", "a"))["stages"]["x"]["foreach"] == ["b", "c"]
