"""The stage `noise`: sets that are seeded by document, measured, and leave labels on their words."""

import math
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.records import Entity, Record, write_shards
from cclm_core.noise.kinds import TYPING
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.runtime.artifacts import publishing, read_json, verify, write_json
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.reporting import silent
from cclm_core.steps.noise import noise, sample
from cclm_core.steps.params import Params
from cclm_core.steps.spellings import misspellings

LINE = "Cassius came with Brutus to the Capitol before noon."
ENTITIES = (Entity(0, 7, "PERSON"), Entity(18, 24, "PERSON"), Entity(32, 39, "PLACE"))
PARAMS = "seed: {seed}\nnoise: {{rates: [0.05, 0.2], max_documents: {most}, variants: [modern]}}\n"


def record(number: int, split: str = "test", variant: str | None = "modern") -> Record:
    return Record(f"{number:04d}", LINE, "Casca", "caesar", variant, "tragedy", ENTITIES, split)


RECORDS = [record(number) for number in range(300)]


def run(folder: Path, records: list[Record], seed: int = 1, most: int = 1000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(PARAMS.format(seed=seed, most=most))
    with publishing(folder / "corpus", "corpus") as written:
        write_shards(written, records)
        write_json(written / "metrics.json", {})
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", silent)
    return folder / "noise"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("made"), RECORDS)


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(pq.read_table(folder / f"{name}.parquet").to_pylist())


def test_one_set_for_each_rate_beside_the_clean_one(made: Path) -> None:
    verify(made, "noise")
    assert sorted(path.name for path in made.glob("*.parquet")) == [
        "clean.parquet",
        "rate-0.05.parquet",
        "rate-0.2.parquet",
    ]
    clean = read(made, "clean")
    assert list(clean.columns) == ["id", "text", "label", "group", "entities", "source"]
    assert clean["id"].tolist() == [one.id for one in RECORDS]
    assert set(clean["text"]) == {LINE}
    assert all([Entity(**entity) for entity in row] == list(ENTITIES) for row in clean["entities"])
    assert all(source == list(range(len(LINE))) for source in clean["source"])
    for name in ("rate-0.05", "rate-0.2"):
        noisy = read(made, name)
        assert noisy[["id", "label", "group"]].equals(clean[["id", "label", "group"]])
        assert noisy["text"].nunique() > 200  # no two documents are noised alike, though their texts are equal


def test_labels_stay_on_their_words(made: Path) -> None:
    for row in read(made, "rate-0.2").itertuples():
        assert len(row.source) == len(row.text)
        entities = iter(ENTITIES)
        for found in row.entities:
            covered = [origin for origin in row.source[found["start"] : found["end"]] if origin >= 0]
            expected = next(one for one in entities if one.start <= covered[0] < one.end)
            left = {origin for origin in row.source if expected.start <= origin < expected.end}
            assert set(covered) == left
            assert found["label"] == expected.label


def test_the_rates_measured_are_those_asked_for(made: Path) -> None:
    metrics = read_json(made / "metrics.json")
    assert (metrics["documents"], metrics["characters"], metrics["entities"]) == (300, 300 * len(LINE), 900)
    letters = 300 * sum(map(str.isalpha, LINE))
    for rate in (0.05, 0.2):
        measured = metrics["rates"][f"{rate:g}"]
        consumed = measured["rate_by_kind"]["swap"] * measured["chances"]  # the second letter of each
        assert measured["chances"] + consumed == pytest.approx(letters)
        assert abs(measured["rate"] - rate) <= 4 * math.sqrt(rate * (1 - rate) / letters)
        assert set(measured["rate_by_kind"]) == set(TYPING)
        assert sum(measured["rate_by_kind"].values()) == pytest.approx(measured["rate"])
        assert measured["entities_kept"] + measured["entities_lost"] == 900
        assert measured["entities_lost"] == 0 or rate == 0.2


def test_a_document_is_noised_alike_whichever_others_there_are(made: Path, tmp_path: Path) -> None:
    others = [record(number) for number in range(1000, 1050)]
    few = run(tmp_path / "few", [*others, *RECORDS[::-30]])
    for name in ("rate-0.05", "rate-0.2"):
        all_texts = dict(zip(read(made, name)["id"], read(made, name)["text"], strict=True))
        for row in read(few, name).itertuples():
            assert row.text == all_texts.get(row.id, row.text)
    shuffled = run(tmp_path / "shuffled", RECORDS[::-1])
    for path in made.glob("*.parquet"):
        assert path.read_bytes() == (shuffled / path.name).read_bytes()


def test_the_seed_matters(made: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "other", RECORDS, seed=2)
    assert (read(other, "rate-0.2")["text"] != read(made, "rate-0.2")["text"]).mean() > 0.9


def test_documents_are_chosen_by_their_ids_in_any_order() -> None:
    config = NoiseConfig(max_documents=50, variants=("modern",))
    fifty = sample(RECORDS, config, 1)
    assert len(fifty) == 50
    assert sample(reversed(RECORDS), config, 1) == fifty
    assert sample(RECORDS, config, 2) != fifty
    assert {one.id for one in fifty} != {one.id for one in RECORDS[:50]}
    without_one = sample([one for one in RECORDS if one != fifty[7]], config, 1)
    assert len({one.id for one in without_one} - {one.id for one in fifty}) == 1


def test_variants_and_splits_are_told_apart(tmp_path: Path) -> None:
    mixed = [
        record(1),
        record(2, variant="folio"),
        record(3, variant=None),
        record(4, "train"),
        record(5, "validation"),
    ]
    assert read(run(tmp_path / "mixed", mixed), "clean")["id"].tolist() == ["0001", "0003"]
    assert [one.id for one in sample(mixed[:3], NoiseConfig(), 1)] == ["0001", "0002", "0003"]


def test_a_document_may_lose_all_its_text(tmp_path: Path) -> None:
    folder = tmp_path / "params"
    folder.mkdir()
    (folder / "params.yaml").write_text("seed: 1\nnoise: {rates: [1.0], kinds: [drop]}\n")
    with publishing(folder / "corpus", "corpus") as written:
        write_shards(written, [Record("1", "Ay", split="test", entities=(Entity(0, 2, "P"),))])
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", silent)
    assert read(folder / "noise", "rate-1").iloc[0].to_dict() == {
        "id": "1",
        "text": "",
        "label": None,
        "group": None,
        "entities": [],
        "source": [],
    }
    assert read_json(folder / "noise" / "metrics.json")["rates"]["1"]["entities_lost"] == 1


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must contain a document of the variants modern, found none"):
        run(tmp_path, [record(1, variant="folio"), record(2, "train")])
    assert not (tmp_path / "noise").exists()


FOLIO = "Loue lookes not with the eyes but with the minde and therefore is wing'd Cupid painted blinde"
MODERN = "Love looks not with the eyes but with the mind and therefore is wing'd Cupid painted blind"
SETS = """seed: 1
noise:
  rates: [0.1]
  sets: {{natural: {{rate: 1, unit: word, kinds: [misspelling]}}}}
  misspellings: {misspellings}
"""


def spelt(folder: Path, misspellings: str) -> Path:
    """The published sets over two documents, with a train split that holds a play in two spellings."""
    (folder / "params.yaml").write_text(SETS.format(misspellings=misspellings))
    train = [
        Record(f"{variant}{number}", text, "Helena", f"dream {number}", variant, "comedy", (), "train")
        for number in range(2)
        for variant, text in (("modern", MODERN), ("folio", FOLIO))
    ]
    test = [Record(f"t{number}", "My love, mind what Cupid looks like!", split="test") for number in range(2)]
    with publishing(folder / "corpus", "corpus") as written:
        write_shards(written, [*train, *test])
        write_json(written / "metrics.json", {})
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", silent)
    return folder / "noise"


def test_misspellings_are_learnt_from_two_spellings_of_the_train_split(tmp_path: Path) -> None:
    made = spelt(tmp_path, "{words: modern, spellings: folio}")
    assert (made / "misspellings.csv").read_text() == (
        "word,misspelling,count\nblind,blinde,2\nlooks,lookes,2\nlove,loue,2\nmind,minde,2\n"
    )
    assert set(read(made, "set-natural")["text"]) == {"My loue, minde what Cupid lookes like!"}
    metrics = read_json(made / "metrics.json")
    assert (metrics["words_misspelt"], metrics["misspellings"]) == (4, 4)
    assert metrics["rates"]["natural"]["rate"] == 1 and metrics["rates"]["natural"]["edits"] == 6


def test_misspellings_come_from_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspellings").mkdir()
    (tmp_path / "misspellings/list.txt").write_text("miand->mind\n")
    assert set(read(spelt(tmp_path, "{path: misspellings/list.txt}"), "set-natural")["text"]) == {
        "My love, miand what Cupid looks like!"
    }


def test_misspellings_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"noise\.sets\.natural has the kind misspelling, but noise\.misspellings"):
        spelt(tmp_path, "{}")
    with pytest.raises(DataError, match=r"list of misspellings not found at misspellings/nowhere\.txt"):
        spelt(tmp_path, "{path: misspellings/nowhere.txt}")
    with pytest.raises(DataError, match="the variants modern and quarto of the train split"):
        spelt(tmp_path, "{words: modern, spellings: quarto}")
    with pytest.raises(ConfigError, match="must both name a variant of the corpus, or neither"):
        spelt(tmp_path, "{words: modern}")
    assert not (tmp_path / "noise").exists()


def test_a_list_and_the_corpus_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspellings").mkdir()
    (tmp_path / "misspellings/list.txt").write_text("loue->love\nluv->love\n")
    made = spelt(tmp_path, "{path: misspellings/list.txt, words: modern, spellings: folio}")
    assert "love,loue,3\nlove,luv,1\n" in (made / "misspellings.csv").read_text()


@pytest.mark.parametrize(
    "section", ["", "noise:\n", "noise: {rates: [0.1], misspellings: {}}\n", "noise: {rates: [0.1]}\n"]
)
def test_everything_but_the_seed_may_be_omitted(section: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"seed: 1\n{section}")
    with publishing(tmp_path / "corpus", "corpus") as written:
        write_shards(written, RECORDS[:5])
    noise(Params.load(tmp_path / "params.yaml"), tmp_path / "corpus", tmp_path / "noise", silent)
    assert (tmp_path / "noise" / "rate-0.1.parquet").exists()
    assert (tmp_path / "noise" / "misspellings.csv").read_text() == "word,misspelling,count\n"


def test_the_list_alone_or_the_corpus_alone_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("luv->love\n")
    listed = NoiseConfig.parse({"kinds": ["misspelling"], "misspellings": {"path": "list.txt"}}, "noise")
    assert misspellings(listed, tmp_path / "no corpus") == {"love": {"luv": 1}}
    assert misspellings(NoiseConfig(), tmp_path / "no corpus") == {}
