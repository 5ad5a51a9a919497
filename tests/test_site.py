"""The documentation site: every page is in the navigation, and nothing comes from the network."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the modules of docs/ importable."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def test_every_page_is_in_the_navigation_once() -> None:
    from generate import NAVIGATION

    pages = [page for listed in NAVIGATION.values() for page in listed]
    assert len(pages) == len(set(pages))
    written = {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")}
    assert written <= set(pages)
    assert all((ROOT / f"{page}.md").is_file() for page in pages if not page.startswith("docs/api/"))


def test_resources_of_other_hosts_are_reported_and_links_are_not(tmp_path: Path) -> None:
    from offline import remote_resources

    (tmp_path / "page.html").write_text(
        '<link rel="stylesheet" href="local.css"><a href="https://example.org">a link</a><img src="a.png">'
    )
    (tmp_path / "local.css").write_text("a { color: red }")
    assert list(remote_resources(tmp_path)) == []
    (tmp_path / "page.html").write_text(
        '<script src="//example.org/a.js"></script><img src="https://example.org/b.png">'
    )
    (tmp_path / "local.css").write_text("@import url('https://example.org/font.css');")
    assert list(remote_resources(tmp_path)) == [
        "page.html: //example.org/a.js",
        "page.html: https://example.org/b.png",
        "local.css: https://example.org/font.css",
    ]
