"""The readers of the library, each with the files that it reads. A new reader of files is added to `PARSERS`."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from cclm_core.composition import ComponentCard, ComposedModel
from cclm_core.composition.component import Component
from cclm_core.composition.store import load_component, load_composition, load_embedder, save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import SPLITS, Entity, Record, read_records, write_shards
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.labeled.config import LabeledConfig
from cclm_core.labeled.dataset import build_labeled
from cclm_core.labeled.examples import LabeledSet, LabeledText, write_labeled
from cclm_core.runtime.artifacts import MANIFEST, publishing, verify, write_json
from cclm_core.runtime.artifacts import file_digest as sha256
from cclm_core.runtime.reporting import null_report
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig
from cclm_core.text.word_targets import FILE as TARGETS
from cclm_core.text.word_targets import WordTargets
from tests.corpora import encode, records
from tests.fuzz.cases import Target
from tests.fuzz.mutations import BYTES, JSON

ENCODER = HourglassConfig(core_width=16, num_layers=1, num_heads=2, width=8)
ROWS = [
    {"id": f"i{number}", "text": f"Bob {number} said", "label": "x", "group": f"g{number % 9}", "e": [[0, 3, "P"]]}
    for number in range(60)
]


def embedder(folder: Path) -> Target:
    """An embedder with its vocabulary."""
    save(_embedder(), folder)
    files = [folder / name for name in ("embedder.json", "embedder.json", "preprocessor.json", "embedder.safetensors")]
    return Target(files, lambda: load_embedder(folder))


def component(folder: Path) -> Target:
    """A component without its base."""
    save(Component(ComponentCard.over(_embedder(), "part", "entities", ENCODER)), folder)
    return Target([folder / "component.json", folder / "component.safetensors"], lambda: load_component(folder))


def composition(folder: Path) -> Target:
    """A composition with its base and a part."""
    base = _embedder()
    save(ComposedModel(base, [Component(ComponentCard.over(base, "part", "entities", ENCODER))], "one"), folder)
    files = [folder / name for name in ("composition.json", "parts/part/component.json", "base/embedder.json")]
    return Target(files, lambda: load_composition(folder))


def published(folder: Path) -> Target:
    """A published folder and its manifest."""
    with publishing(folder / "made", "embedder") as writing:
        save(_embedder(), writing)
    manifest = folder / "made" / MANIFEST
    files = [manifest, manifest, folder / "made" / "embedder.json", folder / "made" / "embedder.safetensors"]
    return Target(files, lambda: verify(folder / "made", "embedder"))


def trained_component(folder: Path) -> Target:
    """A component with its head and card, whose manifest fits the damaged files."""
    from cclm_core.applications.corrector import Corrector
    from cclm_core.objectives.base import ObjectiveContext
    from cclm_core.objectives.denoise import DenoiseConfig
    from tests.applications.published import publish_component

    base = _embedder()
    part = Component(ComponentCard.over(base, "denoise", "denoise", ENCODER))
    with publishing(folder / "base", "embedder") as writing:
        save(base, writing)
    context = ObjectiveContext(width=part.width, preprocessor=base.preprocessor)
    made = publish_component(folder / "part", part, DenoiseConfig().build(context), window=32)

    def publish_again() -> None:
        paths = sorted(path for path in made.rglob("*") if path.is_file() and path.name != MANIFEST)
        write_json(made / MANIFEST, {"kind": "component", "files": {path.name: sha256(path) for path in paths}})

    files = [made / "card.json", made / "card.json", made / "head.safetensors", made / "component.json"]
    return Target(files, lambda: Corrector.load(folder / "base", made).correct("abc de", 1), publish_again)


def word_targets(folder: Path) -> Target:
    """The words of a vocabulary."""
    texts = ["the cat and the dog", "the end"]
    targets = WordTargets.fit(texts, TargetsConfig(min_count=1), Preprocessor().fit(texts)).with_counts(texts)
    targets.save(folder / TARGETS)
    return Target([folder / TARGETS], lambda: WordTargets.load(folder / TARGETS))


def params(folder: Path) -> Target:
    """params.yaml, every section."""
    from cclm_core.steps.params import Params

    path = folder / "params.yaml"
    path.write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    return Target([path], lambda: Params.load(path).check())


def params_values(folder: Path) -> Target:
    """params.yaml whose values have other types, written as JSON, which is YAML."""
    from cclm_core.runtime.config import load_yaml
    from cclm_core.steps.params import Params

    path = folder / "params.yaml"
    path.write_text(json.dumps(load_yaml(Path(__file__).parents[2] / "params.yaml")))
    return Target([path], lambda: Params.load(path).check(), mutations=JSON)


def recipe(folder: Path) -> Target:
    """A recipe of noise, as a file and on the command line."""
    from cclm_core.cli.noise import read_recipe

    path = folder / "recipe.yaml"
    path.write_text("{rate: 0.1, unit: word, kinds: {swap: 2, ocr: 1}, layouts: [qwerty], protected_characters: '01'}")

    def parse() -> None:
        read_recipe(path.read_bytes().decode("utf-8", "surrogateescape"))
        read_recipe(str(path))

    return Target([path], parse)


def misspellings(folder: Path) -> Target:
    """Lists of misspellings in three formats."""
    from cclm_core.noise import NoiseRecipe, TextNoiser, read_misspellings

    lists = {
        "list.csv": "word,misspelling,count\n" + "".join(f"their,thie{letter},3\n" for letter in "abcdefgh"),
        "norvig.txt": "their: thier*3, theire\nbelieve: beleive, belive*2\n",
        "codespell.txt": "teh->the\nhte->the,\nthier->their, there\n",
    }
    for name, content in lists.items():
        (folder / name).write_text(content)

    def parse() -> None:
        for name in lists:
            TextNoiser(NoiseRecipe(kinds=["misspelling"]), read_misspellings(folder / name).spellings)

    return Target([folder / name for name in lists], parse)


def corpus(folder: Path) -> Target:
    """A shard of a corpus."""
    write_shards(
        folder, [Record(f"i{number}", f"text {number}", "a", f"g{number % 5}", "v", "l") for number in range(300)]
    )
    return Target(sorted(folder.glob("*.parquet")), lambda: list(read_records(folder)))


def labeled(folder: Path) -> Target:
    """A labeled data set whose manifest fits the damaged files."""
    entities = (Entity(0, 3, "PER"),)
    texts = [LabeledText(f"i{n}", f"Ann {n}", entities=entities, words=((0, 3),), slices={"a": "b"}) for n in range(40)]
    with publishing(folder / "made", "labeled") as writing:
        write_labeled(writing, "tag", {"train": texts, "validation": texts[:9], "test": texts[:9]}, ["a"])
    made = folder / "made"

    def publish_again() -> None:
        paths = sorted(path for path in made.rglob("*") if path.is_file() and path.name != MANIFEST)
        write_json(made / MANIFEST, {"kind": "labeled", "files": {path.name: sha256(path) for path in paths}})

    files = [made / "labeled.json", made / "labeled.json", made / "train.parquet", made / "test.parquet"]

    def parse() -> None:
        data = LabeledSet.open(made)
        for name in SPLITS:
            data.split(name)

    return Target(files, parse, publish_again)


def encoded(folder: Path) -> Target:
    """An encoded corpus with word targets."""
    encode(folder / "made", records(40), TargetsConfig(min_count=1))

    def parse() -> None:
        opened = EncodedCorpus.open(folder / "made")
        for name in ("train", "test"):
            split = opened.split(name)
            assert len(split.ids) >= 0 and len(split.documents) >= 0

    names = ("encoded.json", "encoded.json", "preprocessor.json", "train.documents.parquet", "train.ids.bin")
    return Target([folder / "made" / name for name in names], parse)


def checkpoint(folder: Path) -> Target:
    """A checkpoint whose digest fits the damaged content."""
    import hashlib

    import torch

    from cclm_core.training.checkpoint import Checkpoint, Checkpoints

    made = Checkpoints(folder / "made", "i" * 20)
    facts = {"curve": [], "losses": [1.0], "best_step": 0, "best_value": None, "since_best": 0}
    made.save(Checkpoint(100, {"model.w": torch.ones(4, 4)}, facts))
    path = next(made.folder.glob("step-*"))

    def parse() -> object:
        content = path.read_bytes()
        fitting = path.with_name(f"step-00000200-{hashlib.sha256(content).hexdigest()[:32]}.safetensors")
        fitting.write_bytes(content)
        try:
            return made.newest()
        finally:
            fitting.unlink(missing_ok=True)

    return Target([path], parse)


def archive(folder: Path) -> Target:
    """A source archive."""
    from cclm_core.ingest.sources.archive import read_members

    path = folder / "a.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as tar:
        for number in range(6):
            member = tarfile.TarInfo(f"x-1/d/{number}.txt")
            member.size = 700
            tar.addfile(member, io.BytesIO(b"y" * 700))
    return Target([path], lambda: list(read_members(path)))


def lines(folder: Path) -> Target:
    """Texts, one per line."""
    return _source(folder, "a.txt", "".join(f"{row['text']}\n" for row in ROWS).encode())


def jsonl(folder: Path) -> Target:
    """Records in JSONL, with entities."""
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    return _source(folder, "a.jsonl", content, {"entities": "e"})


def jsonl_values(folder: Path) -> Target:
    """Records in JSONL in which one record has other values."""
    target = jsonl(folder)
    others = (folder / "a.jsonl").read_bytes()
    (folder / "one.json").write_text(json.dumps(ROWS[0]))

    def add_the_record() -> None:
        (folder / "a.jsonl").write_bytes((folder / "one.json").read_bytes().replace(b"\n", b" ") + b"\n" + others)

    return Target([folder / "one.json"], target.parse, add_the_record)


def labeled_values(folder: Path) -> Target:
    """Labeled texts of every task in JSONL in which one row has other values."""
    row = {"text": "Bob", "b": "x", "tokens": ["Bob"], "tags": ["B-P"], "l": ["x", "y"], "v": 1.5, "s": "z", "k": 1}
    others = "".join(
        json.dumps(row | {"text": f"Bob {n}", "tokens": [f"Bob{n}"], "v": n, "k": n % 2}) + "\n" for n in range(40)
    )
    path = folder / "a.jsonl"
    path.write_text(others)
    (folder / "one.json").write_text(json.dumps(row))

    def add_the_row() -> None:
        path.write_bytes((folder / "one.json").read_bytes().replace(b"\n", b" ") + b"\n" + others.encode())

    tasks = {
        "classify": {"second": "b", "label": "k", "slices": ["s", "v"]},
        "multilabel": {"labels": "l", "slices": "k"},
        "regress": {"value": "v"},
        "tag": {"tokens": "tokens", "tags": "tags"},
    }

    def parse() -> None:
        for task, columns in tasks.items():
            source = {"kind": "files", "paths": str(path), "columns": columns}
            config = LabeledConfig.parse({"task": task, "source": source, "test": {"share": 0.2}}, task)
            data = build_labeled(config, task, 1, folder)
            (folder / "made").mkdir(exist_ok=True)
            write_labeled(folder / "made", config.task, data.splits)

    return Target([folder / "one.json"], parse, add_the_row)


def csv(folder: Path) -> Target:
    """Records in CSV."""
    rows = "".join(f'{row["id"]},"{row["text"]}, too",{row["label"]},{row["group"]}\n' for row in ROWS)
    return _source(folder, "a.csv", ("id,text,label,group\n" + rows).encode(), {})


def conll(folder: Path) -> Target:
    """Tagged words."""
    return _source(folder, "a.conll", "".join(f"Bob B-PER\nsaid O\nno{n} O\n\n" for n in range(60)).encode())


def parquet(folder: Path) -> Target:
    """Records in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [row[name] for row in ROWS] for name in _COLUMNS}), buffer, row_group_size=20)
    return _source(folder, "a.parquet", buffer.getvalue(), {})


def dataset(folder: Path) -> Target:
    """A dataset that `datasets` saved."""
    import datasets

    datasets.disable_progress_bars()
    path = folder / "saved"
    datasets.Dataset.from_dict({name: [row[name] for row in ROWS] for name in _COLUMNS}).save_to_disk(str(path))
    parse = _ingest(folder, {"kind": "dataset", "path": str(path), "columns": {name: name for name in _COLUMNS}})
    return Target(sorted(path.iterdir()), parse)


def card(folder: Path) -> Target:
    """The card of an item on a shelf, with a digest that fits."""
    from cclm_core.runtime.config import canonical_json, digest
    from cclm_core.shelf.card import Card, Digests, files_digest
    from cclm_core.shelf.files import ItemFile

    files = tuple(ItemFile(path=f"{name}.json", size=3, sha256="a" * 64, md5="b" * 32) for name in "abc")
    configuration = {"a": {"b": [1, 2]}}
    made = Card(
        identifier="x", item_type="embedder", license="MIT", configuration=configuration,
        digests=Digests(files=files_digest(files)), scores={"f": {"g": 1.5}}, files=files,
    )  # fmt: skip
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(made.to_bytes())["card"]))

    def parse() -> str:
        content = path.read_bytes()
        try:
            value = json.loads(content)
            content = (canonical_json({"card": value, "digest": digest(value)}) + "\n").encode()
        except (ValueError, RecursionError):
            pass  # a card that was not made by a forger who knows the format
        return Card.from_bytes(content, "x", "embedder").to_markdown()

    return Target([path], parse)


def shelf_settings(folder: Path) -> Target:
    """The settings of DVC in a shelf."""
    from cclm_core.shelf.address import read_remote

    path = folder / "config"
    path.write_text("[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = s3://bucket/x\n    region = eu\n")
    return Target([path], lambda: read_remote(path.read_bytes().decode("utf-8", "replace"), folder), mutations=BYTES)


_COLUMNS = ("id", "text", "label", "group")

PARSERS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "embedder": (embedder, 25),
    "component": (component, 20),
    "composition": (composition, 20),
    "published folder": (published, 25),
    "trained component": (trained_component, 25),
    "word targets": (word_targets, 25),
    "params.yaml": (params, 15),
    "values of params.yaml": (params_values, 25),
    "recipe": (recipe, 25),
    "misspellings": (misspellings, 25),
    "corpus": (corpus, 25),
    "labeled data set": (labeled, 25),
    "values of labeled texts": (labeled_values, 25),
    "encoded corpus": (encoded, 25),
    "checkpoint": (checkpoint, 25),
    "archive": (archive, 25),
    "lines": (lines, 20),
    "jsonl": (jsonl, 20),
    "values of jsonl": (jsonl_values, 25),
    "csv": (csv, 20),
    "conll": (conll, 15),
    "parquet": (parquet, 20),
    "dataset": (dataset, 20),
    "card": (card, 25),
    "shelf settings": (shelf_settings, 25),
}
"""For each reader what makes its target, and the number of cases in `make test`."""


def _embedder() -> Embedder:
    config = EmbedderConfig(embedding=EmbeddingConfig(width=8, ngram_buckets=16), encoder=ENCODER)
    return Embedder(Preprocessor().fit(["abcdefghijklmnopqrstuvwxyz ABC.,!"]), config).freeze()


def _source(folder: Path, name: str, content: bytes, columns: dict[str, str] | None = None) -> Target:
    """A file as the source of a corpus; `columns` are added to those of `_COLUMNS`, None for a format without any."""
    (folder / name).write_bytes(content)
    source: dict[str, object] = {"kind": "files", "paths": [str(folder / name)]}
    if columns is not None:
        source["columns"] = {name: name for name in _COLUMNS} | columns
    return Target([folder / name], _ingest(folder, source), mutations=BYTES)


def _ingest(folder: Path, source: dict[str, object]) -> Callable[[], object]:
    """Reads a source as the stage `ingest` does; what cannot be used must be in the quarantine."""
    from cclm_core.steps.ingest import ingest
    from cclm_core.steps.params import Params

    values = {"seed": 1, "ingest": {"source": source, "validation_share": 0.2, "test_share": 0.2}}
    given = Params(values, "params.yaml")

    def parse() -> None:
        ingest(given, folder / "downloads", folder / "corpus", null_report, workers=1)
        for line in (folder / "corpus" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines():
            rejected = json.loads(line)
            assert rejected["file"] and rejected["line"] >= 0 and rejected["reason"], rejected
        assert all(record.text for record in read_records(folder / "corpus"))

    return parse
