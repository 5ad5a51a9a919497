"""The map of authors: of compositions with contexts only, with names, groups and numbers of texts, reproducible."""

import re
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.corpus.records import Record, write_shards
from cclm_core.encoders.contextual import ContextualConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.report.charts import MapGroups, Spot, scatter
from cclm_core.report.maps import TextMap, author_map
from cclm_core.report.published import Collection, Model, Published
from cclm_core.report.rendering import rendered
from cclm_core.report.tables import Table
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor

AUTHORS = {"Ann <a>": ("play 1", 3), "Bob": ("play 1", 2), "Cid": ("play 2", 12), "Dora": (None, 1)}
PREPROCESSOR = Preprocessor().fit(["abcdefgh ijkl mnop"] * 10)
BASE = {
    "embedding": {"width": 16, "ngram_buckets": 64},
    "encoder": {"kind": "attention", "num_layers": 1, "num_heads": 2, "width": 16},
}


@pytest.fixture(scope="module")
def base() -> Embedder:
    with seeded_initialization(1):
        return Embedder(PREPROCESSOR, EmbedderConfig.parse(BASE, "base")).freeze()


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """A corpus with authors, one of whom is in no group."""
    folder = tmp_path_factory.mktemp("corpus")
    records = [
        Record(f"{author} {number}", f"{author[0].lower() * 3} abc def {number}", author, group, split="test")
        for author, (group, count) in AUTHORS.items()
        for number in range(count)
    ]
    write_shards(folder, [*records, Record("nobody", "a text without an author", split="test")])
    return Collection([Published("corpus", "corpus", "data/corpus", folder, "c0")])


def measured(composition: ComposedModel, folder: Path) -> Model:
    """A published composition with results."""
    save(composition, folder)
    model = Published("composition", "full", "models/compositions/full", folder, "m0")
    results = Published("evaluation", "full", "results/full", folder, "r0", {"composition": "m0"})
    return Model(model, results)


def component(base: Embedder, encoder: Any) -> Component:
    """An untrained component."""
    with seeded_initialization(2):
        return Component(ComponentCard.over(base, "part", "characters", encoder))


@pytest.fixture(scope="module")
def authors(base: Embedder, collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TextMap]:
    """A model that reads contexts, and its map."""
    encoder = ContextualConfig.parse({"core_width": 32, "width": 32, "num_layers": 1, "stride": 2}, "encoder")
    model = measured(ComposedModel(base, [component(base, encoder)]), tmp_path_factory.mktemp("map") / "full")
    result = author_map(model, collection)
    assert result is not None
    return model, result


def test_every_author_is_a_named_point_with_a_number_of_texts(authors: tuple[Model, TextMap]) -> None:
    _, result = authors
    assert result.svg.count("<circle") == len(AUTHORS)
    for author, (group, number) in AUTHORS.items():
        words = f"{escape(author)}, {group or 'no group'}: {number} {'text' if number == 1 else 'texts'}</title>"
        assert words in result.svg
    assert "<a>" not in result.svg and "Ann &lt;a&gt;</text>" in result.svg
    assert result.groups == [("play 1", 2), ("no group", 1), ("play 2", 1)]
    assert result.note.startswith("4 of 4 authors")


def test_the_map_is_reproducible(authors: tuple[Model, TextMap], collection: Collection) -> None:
    model, result = authors
    assert author_map(model, collection) == result


def test_there_is_no_map_without_contexts_or_authors(
    base: Embedder, authors: tuple[Model, TextMap], collection: Collection, tmp_path: Path
) -> None:
    plain = ComposedModel(base, [component(base, base.config.encoder)])
    assert author_map(measured(plain, tmp_path / "plain"), collection) is None
    assert author_map(authors[0], Collection([])) is None


def test_names_do_not_cover_each_other_or_leave_the_map() -> None:
    spots = [Spot(*place, "g", name=name) for place, name in (((500, 500), "first"), ((502, 502), "second"))]
    spots += [Spot(1000, 100, "g", name="at the right edge"), Spot(500, 400, "g", name="below")]
    svg = scatter("map", spots, MapGroups.of(["g"]))
    assert svg.count("<circle") == 4 and "first</text>" in svg and "below</text>" in svg and "second" not in svg
    assert re.search(r'class="count end" x="7\d\d\.\d"[^>]*>at the right edge', svg)


def test_the_page_has_a_section_for_authors(authors: tuple[Model, TextMap]) -> None:
    names = ("ranking", "rankings", "next_steps", "warnings", "stages", "graph", "data", "vocabulary", "learning")
    names += ("compositions", "tasks", "contributions", "slices", "mistakes", "maps", "commands", "pages", "others")
    values: dict[str, Any] = {**{name: [] for name in names}, "lineage": Table((), ()), "title": "report"}
    page = rendered("page.html", **values, author_maps=[authors[1]])
    assert '<section id="authors">' in page and '<a href="#authors">Authors</a>' in page
    assert "all groups" in page and '<section id="maps">' not in page
    assert '<section id="authors">' not in rendered("page.html", **values, author_maps=[])
