"""The stage `noise`: seeded and measured noise sets, moved entity labels, and sources of misspellings."""

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
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.noise import noise, sample
from cclm_core.steps.params import Params
from cclm_core.steps.spellings import misspellings

LINE = "Cassius came with Brutus to the Capitol before noon."
ENTITIES = (Entity(0, 7, "PERSON"), Entity(18, 24, "PERSON"), Entity(32, 39, "PLACE"))
PARAMS = "seed: {seed}\nnoise: {{rates: [0.05, 0.2], max_documents: {max_documents}, variants: [modern]}}\n"


def record(number: int, split: str = "test", variant: str | None = "modern") -> Record:
    return Record(f"{number:04d}", LINE, "Casca", "caesar", variant, "tragedy", ENTITIES, split)


RECORDS = [record(number) for number in range(300)]


def run(folder: Path, records: list[Record], seed: int = 1, max_documents: int = 1000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(PARAMS.format(seed=seed, max_documents=max_documents))
    with publishing(folder / "corpus", "corpus") as writing:
        write_shards(writing, records)
        write_json(writing / "metrics.json", {})
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", null_report)
    return folder / "noise"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("sets"), RECORDS)


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(pq.read_table(folder / f"{name}.parquet").to_pylist())


def test_each_rate_has_a_set_next_to_the_clean_one(sets: Path) -> None:
    verify(sets, "noise")
    assert sorted(path.name for path in sets.glob("*.parquet")) == [
        "clean.parquet",
        "rate-0.05.parquet",
        "rate-0.2.parquet",
    ]
    clean = read(sets, "clean")
    assert list(clean.columns) == ["id", "text", "label", "group", "entities", "source"]
    assert clean["id"].tolist() == [record.id for record in RECORDS]
    assert set(clean["text"]) == {LINE}
    assert all([Entity(**entity) for entity in row] == list(ENTITIES) for row in clean["entities"])
    assert all(source == list(range(len(LINE))) for source in clean["source"])
    for name in ("rate-0.05", "rate-0.2"):
        noisy = read(sets, name)
        assert noisy[["id", "label", "group"]].equals(clean[["id", "label", "group"]])
        assert noisy["text"].nunique() > 200  # documents with equal texts get different noise


def test_entities_move_with_their_words(sets: Path) -> None:
    for row in read(sets, "rate-0.2").itertuples():
        assert len(row.source) == len(row.text)
        entities = iter(ENTITIES)
        for moved in row.entities:
            covered = [origin for origin in row.source[moved["start"] : moved["end"]] if origin >= 0]
            original = next(entity for entity in entities if entity.start <= covered[0] < entity.end)
            remaining = {origin for origin in row.source if original.start <= origin < original.end}
            assert set(covered) == remaining
            assert moved["label"] == original.label


def test_measured_rates_match_the_requested_rates(sets: Path) -> None:
    metrics = read_json(sets / "metrics.json")
    assert (metrics["documents"], metrics["characters"], metrics["entities"]) == (300, 300 * len(LINE), 900)
    letters = 300 * sum(map(str.isalpha, LINE))
    for rate in (0.05, 0.2):
        measured = metrics["rates"][f"{rate:g}"]
        consumed = measured["rate_by_kind"]["swap"] * measured["chances"]  # the second letter of each swap
        assert measured["chances"] + consumed == pytest.approx(letters)
        assert abs(measured["rate"] - rate) <= 4 * math.sqrt(rate * (1 - rate) / letters)
        assert set(measured["rate_by_kind"]) == set(TYPING)
        assert sum(measured["rate_by_kind"].values()) == pytest.approx(measured["rate"])
        assert measured["entities_kept"] + measured["entities_lost"] == 900
        assert measured["entities_lost"] == 0 or rate == 0.2


def test_the_noise_of_a_document_does_not_depend_on_other_documents(sets: Path, tmp_path: Path) -> None:
    new_records = [record(number) for number in range(1000, 1050)]
    few = run(tmp_path / "few", [*new_records, *RECORDS[::-30]])
    for name in ("rate-0.05", "rate-0.2"):
        all_texts = dict(zip(read(sets, name)["id"], read(sets, name)["text"], strict=True))
        for row in read(few, name).itertuples():
            assert row.text == all_texts.get(row.id, row.text)
    shuffled = run(tmp_path / "shuffled", RECORDS[::-1])
    for path in sets.glob("*.parquet"):
        assert path.read_bytes() == (shuffled / path.name).read_bytes()


def test_another_seed_gives_other_noise(sets: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "other", RECORDS, seed=2)
    assert (read(other, "rate-0.2")["text"] != read(sets, "rate-0.2")["text"]).mean() > 0.9


def test_documents_are_sampled_by_id_in_any_order() -> None:
    config = NoiseConfig(max_documents=50, variants=("modern",))
    fifty = sample(RECORDS, config, 1)
    assert len(fifty) == 50
    assert sample(reversed(RECORDS), config, 1) == fifty
    assert sample(RECORDS, config, 2) != fifty
    assert {record.id for record in fifty} != {record.id for record in RECORDS[:50]}
    without_one = sample([record for record in RECORDS if record != fifty[7]], config, 1)
    assert len({record.id for record in without_one} - {record.id for record in fifty}) == 1


def test_only_the_test_split_and_the_configured_variants_are_noised(tmp_path: Path) -> None:
    mixed = [
        record(1),
        record(2, variant="folio"),
        record(3, variant=None),
        record(4, "train"),
        record(5, "validation"),
    ]
    assert read(run(tmp_path / "mixed", mixed), "clean")["id"].tolist() == ["0001", "0003"]
    assert [record.id for record in sample(mixed[:3], NoiseConfig(), 1)] == ["0001", "0002", "0003"]


def test_a_document_can_lose_all_its_text(tmp_path: Path) -> None:
    folder = tmp_path / "params"
    folder.mkdir()
    (folder / "params.yaml").write_text("seed: 1\nnoise: {rates: [1.0], kinds: [drop]}\n")
    with publishing(folder / "corpus", "corpus") as writing:
        write_shards(writing, [Record("1", "Ay", split="test", entities=(Entity(0, 2, "P"),))])
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", null_report)
    assert read(folder / "noise", "rate-1").iloc[0].to_dict() == {
        "id": "1",
        "text": "",
        "label": None,
        "group": None,
        "entities": [],
        "source": [],
    }
    assert read_json(folder / "noise" / "metrics.json")["rates"]["1"]["entities_lost"] == 1


def test_without_a_matching_document_nothing_is_published(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no document of the variants modern in the test split"):
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


def run_with_misspellings(folder: Path, misspellings: str) -> Path:
    """Runs the stage on two test documents and a train split with a play in two spellings."""
    (folder / "params.yaml").write_text(SETS.format(misspellings=misspellings))
    train = [
        Record(f"{variant}{number}", text, "Helena", f"dream {number}", variant, "comedy", (), "train")
        for number in range(2)
        for variant, text in (("modern", MODERN), ("folio", FOLIO))
    ]
    test = [Record(f"t{number}", "My love, mind what Cupid looks like!", split="test") for number in range(2)]
    with publishing(folder / "corpus", "corpus") as writing:
        write_shards(writing, [*train, *test])
        write_json(writing / "metrics.json", {})
    noise(Params.load(folder / "params.yaml"), folder / "corpus", folder / "noise", null_report)
    return folder / "noise"


def test_misspellings_are_learned_from_two_variants_of_the_train_split(tmp_path: Path) -> None:
    output = run_with_misspellings(tmp_path, "{words: modern, spellings: folio}")
    assert (output / "misspellings.csv").read_text() == (
        "word,misspelling,count\nblind,blinde,2\nlooks,lookes,2\nlove,loue,2\nmind,minde,2\n"
    )
    assert set(read(output, "set-natural")["text"]) == {"My loue, minde what Cupid lookes like!"}
    metrics = read_json(output / "metrics.json")
    assert (metrics["words_misspelt"], metrics["misspellings"]) == (4, 4)
    assert metrics["rates"]["natural"]["rate"] == 1 and metrics["rates"]["natural"]["edits"] == 6


def test_misspellings_are_read_from_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspellings").mkdir()
    (tmp_path / "misspellings/list.txt").write_text("miand->mind\n")
    assert set(read(run_with_misspellings(tmp_path, "{path: misspellings/list.txt}"), "set-natural")["text"]) == {
        "My love, miand what Cupid looks like!"
    }


def test_missing_sources_of_misspellings_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"noise\.sets\.natural has the kind misspelling, but noise\.misspellings"):
        run_with_misspellings(tmp_path, "{}")
    with pytest.raises(DataError, match=r"list of misspellings not found at misspellings/nowhere\.txt"):
        run_with_misspellings(tmp_path, "{path: misspellings/nowhere.txt}")
    with pytest.raises(DataError, match="the variants modern and quarto must share groups"):
        run_with_misspellings(tmp_path, "{words: modern, spellings: quarto}")
    with pytest.raises(ConfigError, match="must both name a variant of the corpus, or neither"):
        run_with_misspellings(tmp_path, "{words: modern}")
    assert not (tmp_path / "noise").exists()


def test_counts_of_the_list_and_the_corpus_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspellings").mkdir()
    (tmp_path / "misspellings/list.txt").write_text("loue->love\nluv->love\n")
    output = run_with_misspellings(tmp_path, "{path: misspellings/list.txt, words: modern, spellings: folio}")
    assert "love,loue,3\nlove,luv,1\n" in (output / "misspellings.csv").read_text()


@pytest.mark.parametrize(
    "section", ["", "noise:\n", "noise: {rates: [0.1], misspellings: {}}\n", "noise: {rates: [0.1]}\n"]
)
def test_everything_but_the_seed_can_be_omitted(section: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"seed: 1\n{section}")
    with publishing(tmp_path / "corpus", "corpus") as writing:
        write_shards(writing, RECORDS[:5])
    noise(Params.load(tmp_path / "params.yaml"), tmp_path / "corpus", tmp_path / "noise", null_report)
    assert (tmp_path / "noise" / "rate-0.1.parquet").exists()
    assert (tmp_path / "noise" / "misspellings.csv").read_text() == "word,misspelling,count\n"


def test_a_list_is_a_source_without_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("luv->love\n")
    listed = NoiseConfig.parse({"kinds": ["misspelling"], "misspellings": {"path": "list.txt"}}, "noise")
    assert misspellings(listed, tmp_path / "no corpus") == {"love": {"luv": 1}}
    assert misspellings(NoiseConfig(), tmp_path / "no corpus") == {}
