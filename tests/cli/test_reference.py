"""`cclm config reference`: every key of params.yaml, with a meaning; docs/params.md is current."""

import re
from pathlib import Path

from cclm_core.cli.reference import page, schema
from cclm_core.steps.params import NAMED, SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "params.md"


def test_the_page_of_all_keys_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs` and commit the page"


def test_every_key_has_a_meaning_and_every_link_a_heading() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"## {key}{'.NAME' if key in NAMED else ''}\n" in text for key in SECTIONS)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 300 and [row for row in rows if re.search(r"\|\s*\|$", row)] == []
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert len(titles) == len(set(titles))


def test_types_ranges_and_defaults_are_those_of_the_configuration() -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## vocabulary\n")[1].split("\n## ")[0]
    rows = {row.split("`")[1]: row for row in section.splitlines() if row.startswith("| `")}
    assert rows["max_characters"].startswith("| `max_characters` | integer | `1000` | 0 to 65,276 | maximum size")
    assert "| `NFC` or `NFD` or `NFKC` or `NFKD` or null | `null` |" in rows["normalisation"]


def test_the_schema_names_all_sections_and_refuses_others() -> None:
    described = schema()
    assert {*SECTIONS, "seed", "code"} == described["properties"].keys()
    assert described["additionalProperties"] is False
