"""Filters give the expected reasons; transforms move spans with their characters or reject the record."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cclm_core.corpus.records import Entity, Record, fault
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.filters import Filter, rejection_reason
from cclm_core.ingest.named import named_function
from cclm_core.ingest.transforms import Transform, transformed
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CclmError, ConfigError, DataError

SOURCE = {"kind": "files", "paths": ["a.txt"]}


def members(family: object) -> tuple[type[Config], ...]:
    """The member classes of a family, which is a union with a discriminator."""
    return get_args(get_args(family)[0])


def config(**section: object) -> IngestConfig:
    return IngestConfig.parse({"source": SOURCE, "validation_share": 0.1, "test_share": 0.1, **section}, "ingest")


@pytest.fixture
def own_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    code = "def shout(text): return text.upper()\ndef short(text): return len(text) < 4\ndef wrong(text): return 3\n"
    (tmp_path / "own_cleaning.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_cleaning", None)
    named_function.cache_clear()


def name(family: object, member: type[Config]) -> str:
    """The name that selects a member of a family in the configuration."""
    key = get_args(family)[1].discriminator
    return str(get_args(member.model_fields[key].annotation)[0])


REASONS = [
    ({"filter": "length", "min_characters": 4}, "abc", "shorter than 4 characters"),
    ({"filter": "length", "min_characters": 4}, "abcd", None),
    ({"filter": "length", "max_characters": 4}, "abcde", "longer than 4 characters"),
    ({"filter": "pattern", "keep": r"\d"}, "abc", r"does not match \d"),
    ({"filter": "pattern", "keep": r"\d"}, "ab7", None),
    ({"filter": "pattern", "drop": "(?i)lorem"}, "Lorem ipsum", "matches (?i)lorem"),
    ({"filter": "pattern", "drop": "(?i)lorem"}, "ipsum", None),
    ({"filter": "letters", "min_share": 0.5}, "1 2 3 ab", "share of letters below 0.5"),
    ({"filter": "letters", "min_share": 0.5}, "1 2 é ж", None),
    ({"filter": "function", "name": "own_cleaning:short"}, "abcd", "not kept by own_cleaning:short"),
    ({"filter": "function", "name": "own_cleaning:short"}, "abc", None),
]


@pytest.mark.usefixtures("own_functions")
@pytest.mark.parametrize(("section", "text", "reason"), REASONS)
def test_a_filter_returns_a_reason_or_none(section: dict[str, object], text: str, reason: str | None) -> None:
    filters = config(filters=[section]).filters
    assert rejection_reason(Record("1", text), filters) == reason


CHANGES = [
    ("strip", "  In York\n", "In York", (5, 9)),
    ("collapse_white_space", "In \n\t York  now", "In York now", (6, 10)),
    ({"transform": "normalise", "form": "NFC"}, "e\u0301 York", "é York", (3, 7)),
    ({"transform": "normalise", "form": "NFKC"}, "ﬁn York", "fin York", (3, 7)),
    ({"transform": "replace", "pattern": r"\[\d+\]", "by": ""}, "In[12] York", "In York", (7, 11)),
    ({"transform": "replace", "pattern": r"(\w)\.", "by": r"\1dot "}, "I. York", "Idot  York", (3, 7)),
]


@pytest.mark.parametrize(("section", "text", "expected", "span"), CHANGES)
def test_a_transform_moves_spans_with_their_characters(
    section: object, text: str, expected: str, span: tuple[int, int]
) -> None:
    transforms = config(transforms=[section]).transforms
    assert text[slice(*span)].strip() == "York"[: span[1] - span[0]].strip()
    changed = transformed(Record("1", text, entities=(Entity(*span, "PLACE"),)), transforms)
    assert changed is not None and changed.text == expected
    (entity,) = changed.entities
    assert expected[entity.start : entity.end] == "York"


@pytest.mark.usefixtures("own_functions")
def test_a_span_that_cannot_be_moved_rejects_the_record() -> None:
    remove_york = config(transforms=[{"transform": "replace", "pattern": "York"}]).transforms
    assert transformed(Record("1", "In York", entities=(Entity(3, 7, "P"),)), remove_york) is None
    shout = config(transforms=[{"transform": "function", "name": "own_cleaning:shout"}]).transforms
    changed = transformed(Record("1", "In York"), shout)
    assert changed is not None and changed.text == "IN YORK"
    assert transformed(Record("1", "In York", entities=(Entity(3, 7, "P"),)), shout) is None
    same = Record("1", "IN YORK", entities=(Entity(3, 7, "P"),))
    assert transformed(same, shout) == same


EVERY = config(
    transforms=[
        "collapse_white_space",
        {"transform": "normalise", "form": "NFKC"},
        {"transform": "replace", "pattern": "b+", "by": "BB"},
        "strip",
    ]
).transforms


@pytest.mark.parametrize("member", members(Filter))
def test_every_filter_has_an_example_that_it_keeps_and_one_that_it_rejects(member: type[Config]) -> None:
    reasons = [reason for section, _, reason in REASONS if section["filter"] == name(Filter, member)]
    assert None in reasons and any(reasons), "add examples to REASONS"


@pytest.mark.usefixtures("own_functions")
@pytest.mark.parametrize("member", members(Transform))
@given(st.text(alphabet="ab \n\u00a0\ufb01e\u0301\U0001f642[1].", max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_transform_maps_all_characters_to_their_origins_or_none(member: type[Config], text: str) -> None:
    sections = [section if isinstance(section, dict) else {"transform": section} for section, *_ in CHANGES]
    sections.append({"transform": "function", "name": "own_cleaning:shout"})
    of_member = [section for section in sections if section["transform"] == name(Transform, member)]
    assert of_member, "add an example to CHANGES"
    for transform in config(transforms=of_member).transforms:
        changed, origins = transform.apply(text), transform.origins(text)
        if origins is not None:
            assert len(origins) == len(changed) + 1 and origins[-1] == len(text)
            assert (np.diff(origins) >= 0).all()


@given(st.text(alphabet="ab \n\u00a0ﬁe\u0301🙂", min_size=1, max_size=30), st.data())
def test_moved_spans_are_valid(text: str, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=4)))
    spans = tuple(Entity(start, end, "X") for start, end in zip(edges[::2], edges[1::2], strict=False))
    changed = transformed(Record("1", text, entities=spans), EVERY)
    if changed is not None and changed.text.strip():
        assert fault(changed) is None
        assert len(changed.entities) == len(spans)


@pytest.mark.usefixtures("own_functions")
@pytest.mark.parametrize(
    ("section", "kind", "message"),
    [
        (
            {"filters": [{"filter": "lenght"}]},
            ConfigError,
            r"filter must be one of .*; did you mean 'length'",
        ),
        ({"filters": [{"filter": "pattern", "keep": "("}]}, ConfigError, "invalid regular expression"),
        ({"filters": [{"filter": "pattern"}]}, ConfigError, "exactly one of `keep` and `drop`"),
        ({"filters": [{"filter": "length", "min_characters": 9, "max_characters": 3}]}, ConfigError, "at least `min_"),
        ({"filters": [{"filter": "length", "min": 9}]}, ConfigError, r"ingest: filters.0.min is not a known key"),
        ({"transforms": ["stripp"]}, ConfigError, r"transforms.0.transform must be one of .*did you mean 'strip'"),
        ({"duplicates": "nearly"}, ConfigError, "'exact' or 'near'"),
    ],
)
def test_an_invalid_section_is_an_error(section: dict[str, object], kind: type[CclmError], message: str) -> None:
    with pytest.raises(kind, match=message):
        config(**section)


@pytest.mark.usefixtures("own_functions")
def test_errors_name_a_function_that_is_missing_or_returns_another_type() -> None:
    for name, message in (
        ("own_cleaning", "name a function as module:function"),
        ("no_such_module_here:f", "cannot import module 'no_such_module_here'"),
        ("own_cleaning:nothing", "function 'nothing' not found"),
    ):
        with pytest.raises(ConfigError, match=message):
            named_function(name)
    wrong = {"name": "own_cleaning:wrong"}
    with pytest.raises(DataError, match="own_cleaning:wrong must return a str, got int"):
        transformed(Record("1", "x"), config(transforms=[{"transform": "function", **wrong}]).transforms)
    with pytest.raises(DataError, match="own_cleaning:wrong must return a bool, got int"):
        rejection_reason(Record("1", "x"), config(filters=[{"filter": "function", **wrong}]).filters)


def test_the_canonical_configuration_contains_all_defaults() -> None:
    section = config(transforms=["strip"], filters=[{"filter": "letters", "min_share": 0.5}], duplicates="near")
    assert section.canonical()["filters"] == [{"filter": "letters", "min_share": 0.5}]
    assert section.canonical()["transforms"] == [{"transform": "strip"}]
    assert section.canonical()["duplicates"] == {"kind": "near", "threshold": 0.8, "ngram": 5, "min_characters": 1}


def test_the_example_in_the_docs_is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs/corpus.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    section = yaml.safe_load(next(block for block in blocks if "filters:" in block))["ingest"]
    parsed = IngestConfig.parse(section, "ingest")
    assert len(parsed.filters) >= 4
    assert len(parsed.transforms) >= 5
    assert parsed.duplicates is not None
