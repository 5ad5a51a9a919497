"""The built pages load nothing from the network: no font, script, style or picture of another host."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_REMOTE = re.compile(r"^(?:https?:)?//")
_IN_STYLE = re.compile(r"""(?:@import\s+|url\()\s*['"]?((?:https?:)?//[^'")\s]+)""")


def remote_resources(folder: Path) -> Iterator[str]:
    """Yields `page: address` for each resource of another host that a page or style sheet loads. Links are fine."""
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(folder)}: {address}" for address in page.loaded if _REMOTE.match(address))
    for path in sorted([*folder.rglob("*.css"), *folder.rglob("*.html")]):
        yield from (f"{path.relative_to(folder)}: {address}" for address in _IN_STYLE.findall(path.read_text("utf-8")))


class _Page(HTMLParser):
    """Collects what a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the resources of a tag: `src` of all tags, `href` of `link`."""
        for name, value in attrs:
            if value and (name in ("src", "srcset", "data", "poster") or (tag, name) == ("link", "href")):
                self.loaded.append(value.strip())
