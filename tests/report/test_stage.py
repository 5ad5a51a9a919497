"""The stage `report`: what the page says, that it is reproducible, and what happens with damaged or old folders."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cclm_core.report import FACTS_PLACE
from cclm_core.report.published import Collection
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params
from cclm_core.steps.report import report
from tests.report.conftest import SETTINGS

SECTIONS = ("answer", "pipeline", "data", "learning", "compositions", "tasks", "contributions", "mistakes", "maps")


PAGES = {"compositions/control.html", "compositions/full.html", "compositions/small.html"} | {
    "tasks/intent.html",
    "tasks/scratch.html",
}


class Elements(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags are closed in order."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def make(root: Path, out: Path) -> Path:
    report(Params(SETTINGS), *(root / name for name in ("data", "models", "results")), out, null_report)
    return out / "report.html"


def test_the_page_is_well_formed_and_has_every_section(page: Path) -> None:
    verify(page.parent, "report")
    elements = Elements(page.read_text())
    ids = {attributes.get("id") for _, attributes in elements.tags}
    assert {*SECTIONS, "lineage", "reproduce", "run-facts"} <= ids
    text = " ".join(elements.texts)
    for words in ("Compositions:", "What to do next", "Under typing noise", "duplicate text", "empty text", "paired"):
        assert words in text
    assert "3 compositions" in text and "2 tasks" in text
    assert len([tag for tag, attributes in elements.tags if attributes.get("class") == "spot s0"]) > 10


def test_the_page_loads_nothing_and_escapes_the_texts_of_users(page: Path) -> None:
    text = page.read_text()
    elements = Elements(text)
    assert not {"src", "srcset", "action"} & {name for _, attributes in elements.tags for name in attributes}
    links = [attributes["href"] for tag, attributes in elements.tags if "href" in attributes]
    assert {str(link) for link in links if not str(link).startswith("#")} == PAGES
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text
    assert "card <lost>" not in text and "card &lt;lost&gt;" in text
    assert text.count("<script") == 2 and text.count(FACTS_PLACE) == 1


def test_the_page_is_reproducible_and_does_not_depend_on_where_the_folders_are(
    project: Path, page: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "project"
    shutil.copytree(project, moved, ignore=shutil.ignore_patterns("report", "checkpoints"))
    again = make(moved, tmp_path / "report").parent
    verify(again, "report")
    assert {path.relative_to(again).as_posix() for path in again.rglob("*.html")} == PAGES | {"report.html"}
    for path in again.rglob("*.html"):
        assert path.read_bytes() == (page.parent / path.relative_to(again)).read_bytes()
        assert str(project) not in path.read_text()


def test_each_model_has_a_page_about_its_own_results_and_parts(page: Path) -> None:
    small = (page.parent / "compositions" / "small.html").read_text()
    elements = Elements(small)
    ids = {attributes.get("id") for _, attributes in elements.tags}
    assert {"parts", "scores", "noise", "mistakes", "maps", "learning", "lineage", "reproduce"} <= ids
    assert "pretrain@characters" in small and "pretrain@masked_characters" not in small
    assert "models/tasks" not in small and "cclm run --target evaluate@small" in small
    assert "contributions" not in ids  # it has one part
    full = (page.parent / "compositions" / "full.html").read_text()
    assert 'id="contributions"' in full and "pretrain@masked_characters: held-out bits" in full
    links = [attributes["href"] for tag, attributes in elements.tags if "href" in attributes]
    assert [link for link in links if not str(link).startswith("#")] == ["../report.html"]
    assert not re.search(r"https?://|url\(|@import", small)


def test_the_page_of_a_task_links_to_the_composition_that_it_started_from(page: Path) -> None:
    text = (page.parent / "tasks" / "intent.html").read_text()
    assert "<title>Task intent</title>" in text and "tickets, from full" in text
    assert '<a href="../compositions/full.html">full</a>' in text and "card &lt;lost&gt;" in text
    assert "ngrams (baseline)" in text and "cclm predict models/tasks/intent" in text
    scratch = (page.parent / "tasks" / "scratch.html").read_text()
    assert "tickets, from random weights" in scratch and "compositions/full.html" not in scratch


def test_the_answer_names_the_best_of_each(page: Path) -> None:
    answer = json.loads((page.parent / "answer.json").read_text())
    assert set(answer) == {"lines", "next"}
    text = " ".join(answer["lines"])
    assert "3 compositions" in text and "Against control" in text and "2 tasks" in text and "Against intent" in text
    assert "Simple baselines" in text
    assert answer["next"][0].startswith("Measure on more test texts")


def test_a_folder_made_from_an_earlier_version_is_outdated(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("report", "checkpoints"))
    shutil.rmtree(root / "models" / "base")
    collection = Collection.find([root / "models"])
    (component,) = (item for item in collection.of_kind("component") if item.name == "characters")
    assert collection.outdated(component) == ["base", "data"]
    text = make(root, tmp_path / "report").read_text()
    assert "pretrain@characters is outdated: changed since then: base." in text
    assert "evaluate@full is outdated" not in text


def test_results_of_another_model_are_not_shown_as_those_of_this_one(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("report", "checkpoints"))
    shutil.rmtree(root / "models" / "compositions" / "full")
    shutil.copytree(root / "models" / "compositions" / "small", root / "models" / "compositions" / "full")
    names = [model.name for model in Collection.find([root / "models", root / "results"]).models("composition")]
    assert names.count("full") == 0


def test_damaged_and_missing_folders_are_refused_and_the_page_is_kept(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("report", "checkpoints"))
    (root / "results" / "full" / "confusion.csv").write_text("id,true,predicted\n")
    out = tmp_path / "report"
    out.mkdir()
    (out / "kept.txt").write_text("kept")
    with pytest.raises(IntegrityError, match=r"confusion.csv is altered"):
        make(root, out)
    assert (out / "kept.txt").read_text() == "kept"
    with pytest.raises(ArtifactError, match="nothing not found"):
        Collection.find([tmp_path / "nothing"])
    with pytest.raises(ArtifactError, match="nothing is published in"):
        Collection.find([out])
