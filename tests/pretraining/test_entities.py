"""Entity pretrainers: learn from labeled texts in any form, find entities with exact offsets, keep their labels."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.corpus.records import Entity, Record
from cclm_core.encoders.digest import weights_digest
from cclm_core.pretraining import EntityPretrainer, Pretrainer
from cclm_core.pretraining.labeled import LabelColumns, labeled_records
from cclm_core.runtime.artifacts import publishing
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError, DataError, TrainingError
from tests.corpora import NAMES, THINGS, VERBS
from tests.pretraining.test_pretrainer import ENCODER, SHORT, TEXTS, embedder

GENERATOR = np.random.default_rng(9)
LABELS = {name: "LADY" if name in ("Viola", "Olivia") else "LORD" for name in NAMES}


def labeled(generator: np.random.Generator) -> tuple[str, list[tuple[int, int, str]]]:
    """A text with a name at its start and often one at its end, of one of two labels."""
    first, last = generator.choice(NAMES, 2)
    thing = f"{generator.choice(THINGS)} of {last}" if generator.random() < 0.6 else str(generator.choice(THINGS))
    text = f"{first} {generator.choice(VERBS)} {thing}."
    spans = [(0, len(first), LABELS[first])]
    if thing.endswith(last):
        spans.append((len(text) - 1 - len(last), len(text) - 1, LABELS[last]))
    return text, spans


PAIRS = [labeled(GENERATOR) for _ in range(150)]


@pytest.fixture(scope="module")
def trained() -> EntityPretrainer:
    entities = EntityPretrainer(embedder(texts=[text for text, _ in PAIRS]), encoder=ENCODER)
    entities.fit(PAIRS, steps=100, batch_size=8, window=48, learning_rate=5e-3)
    return entities


def spans(texts: list[str], entities: EntityPretrainer) -> list[list[tuple[int, int, str]]]:
    return [[tuple(entity) for entity in found] for found in entities.tag(texts)]


def test_entities_are_found_with_exact_offsets_and_label_names(trained: EntityPretrainer) -> None:
    fresh = [labeled(GENERATOR) for _ in range(60)]
    assert trained.labels == ("LADY", "LORD")
    found = spans([text for text, _ in fresh], trained)
    assert sum(left == right for left, (_, right) in zip(found, fresh, strict=True)) >= 57
    assert trained.tag([]) == [] and trained.tag(["", " "]) == [[], []]


def test_long_texts_and_unseen_characters_keep_their_offsets(trained: EntityPretrainer) -> None:
    text = "🚀é " + " ".join(text for text, _ in PAIRS[:40])
    found = spans([text], trained)[0]
    names = [text[start:end] for start, end, _ in found]
    assert len(found) > 40 and sum(name in NAMES for name in names) > 0.9 * len(names)
    assert all(LABELS[text[start:end]] == label for start, end, label in found if text[start:end] in LABELS)


def test_a_saved_component_tags_in_a_fresh_process(trained: EntityPretrainer, tmp_path: Path) -> None:
    trained.save(tmp_path / "entities")
    save(trained.embedder, tmp_path / "base")
    program = (
        "import sys; from cclm_core import EntityPretrainer; "
        "entities = EntityPretrainer.load(sys.argv[1], sys.argv[2]); "
        "print([[tuple(entity) for entity in found] for found in entities.tag([sys.argv[3]])])"
    )
    arguments = [str(tmp_path / "entities"), str(tmp_path / "base"), "Viola loves the ring of Feste."]
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, *arguments]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert output.strip() == str([[(0, 5, "LADY"), (24, 29, "LORD")]])


def test_training_continues_from_a_saved_folder(trained: EntityPretrainer, tmp_path: Path) -> None:
    trained.save(tmp_path / "entities")
    loaded = EntityPretrainer.load(tmp_path / "entities", trained.embedder)
    assert loaded.model.digest == trained.model.digest and loaded.labels == trained.labels
    assert loaded.config == trained.config and len(loaded.curve) == len(trained.curve)
    text = ["Antonio greets Olivia."]
    assert loaded.tag(text) == trained.tag(text)
    curve = loaded.fit(PAIRS, **SHORT, learning_rate=1e-4)
    assert curve[0]["held_out_bits_per_tag"] == pytest.approx(trained.curve[-1]["held_out_bits_per_tag"], abs=0.05)
    loaded.save(tmp_path / "again")
    again = EntityPretrainer.load(tmp_path / "again", trained.embedder)
    assert again.model.digest == loaded.model.digest != trained.model.digest


def rows() -> dict[str, Any]:
    """The same labeled texts in every form."""
    tokens = [[*text.removesuffix(".").split(), "."] for text, _ in PAIRS]
    tags = [["B-" + LABELS[token] if token in LABELS else "O" for token in row] for row in tokens]
    names = ["O", "B-LADY", "I-LADY", "B-LORD", "I-LORD"]
    pairs = [
        (" ".join(row), [(start, start + len(token), LABELS[token]) for start, token in starts(row) if token in LABELS])
        for row in tokens
    ]
    numbered = [[names.index(tag) for tag in row] for row in tags]
    spans = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for _, row in pairs]
    classes = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=names))})
    texts = [text for text, _ in pairs]
    return {
        "pairs": pairs,
        "records": [
            Record(f"r{number}", text, entities=tuple(Entity(*span) for span in row))
            for number, (text, row) in enumerate(pairs)
        ],
        "mappings": [{"text": text, "entities": row} for text, row in zip(texts, spans, strict=True)],
        "mapping of columns": {"text": texts, "spans": spans},
        "dataset of spans": Dataset.from_dict({"id": range(len(texts)), "text": texts, "spans": spans}),
        "dataset of tags": Dataset.from_dict({"tokens": tokens, "ner_tags": numbered}, features=classes),
        "dataset of words": Dataset.from_dict({"tokens": tokens, "ner_tags": tags}),
        "both": Dataset.from_dict({"text": texts, "tokens": tokens, "ner_tags": tags}),
        "frame": pd.DataFrame({"text": texts, "entities": spans}),
        "frame of tags": pd.DataFrame({"tokens": tokens, "tags": tags}),
        "arrow": pa.table({"text": texts, "entities": spans}),
    }


def starts(tokens: list[str]) -> list[tuple[int, str]]:
    """Each token with its position in the joined text."""
    positions = np.cumsum([0, *(len(token) + 1 for token in tokens)])
    return [(int(position), token) for position, token in zip(positions, tokens, strict=False)]


FORMS = rows()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(form: str) -> None:
    records = list(labeled_records(FORMS[form], LabelColumns())())
    assert [(record.text, [tuple(entity) for entity in record.entities]) for record in records] == FORMS["pairs"]


def test_every_form_gives_the_same_training() -> None:
    digests = set()
    for form in ("pairs", "records", "dataset of tags"):
        entities = EntityPretrainer(embedder().freeze(), encoder=ENCODER)
        entities.fit(FORMS[form], **SHORT)
        digests.add((entities.model.digest, weights_digest(entities.objective)))
    assert len(digests) == 1


def test_columns_and_names_of_tags_can_be_given() -> None:
    table = {"words": [["Viola", "!"]], "pos": [["V", "X"]], "kinds": [[1, 0]], "text": ["other"], "tags": [[]]}
    columns = LabelColumns("words", "kinds", ["O", "B-LADY"])
    (record,) = labeled_records(table, columns)()
    assert (record.text, record.entities) == ("Viola !", (Entity(0, 5, "LADY"),))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("Viola", "must be a list of pairs .* got str"),
        (3, "got int"),
        (["Viola", "Feste"], r"row 0: a row must be a pair \(text, spans\), .* got str: 'Viola'"),
        ([("Viola", [(0, 9, "PER")])], r"row 0: entity span out of range: .*in 'Viola'"),
        ([("Viola", [(0, 2, "PER"), (1, 3, "PER")])], "row 0: entity spans overlap"),
        ([("Viola", [(0, 5, "")])], "row 0: entity without a label"),
        ([("Viola", [(True, 5, "PER")])], r"row 0: an entity must be \(start, end, label\).* got \(True, 5, 'PER'\)"),
        ([("Viola", [(0.0, 5, "PER")])], "row 0: an entity must be"),
        ([("Viola", "PER")], "row 0: 'entities' must be a list, got str: 'PER'"),
        ([("", [(0, 1, "PER")])], "row 0: the text is empty, but it has entities"),
        ([{"text": "Viola"}], "row 0: no column 'entities' or 'spans' or 'ner_tags' or 'tags' for the labels"),
        ([{"tokens": ["Viola"], "ner_tags": [3]}], "row 0: the tag 3 is a number without a name. Pass `tag_names`"),
        ([{"tokens": ["Viola"], "ner_tags": ["PER"]}], "row 0: a tag must be O, or B, I, E, L, S or U.* got 'PER'"),
        ([{"tokens": ["Viola"], "ner_tags": ["O", "O"]}], "one tag for each token, got 1 tokens and 2 tags"),
        ([{"tokens": [None], "ner_tags": ["O"]}], "a list of nonempty tokens"),
        ([Record("7", "Viola", split="test")], "row 0: record '7' belongs to the split 'test'"),
        ({"text": ["a", "b"], "entities": [[]]}, "lists of equal length"),
        (iter([("Viola", [])]), "can be read only once"),
        ([("Viola", []), ("Feste", [])], "the texts have no entities, so there is nothing to learn"),
        ([("Viola\ud800", [])], "row 0: lone surrogate"),
    ],
)
def test_invalid_labeled_texts_are_rejected_with_their_row(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        EntityPretrainer(embedder().freeze(), encoder=ENCODER).fit(data, steps=1)


def test_a_new_label_is_rejected(trained: EntityPretrainer, tmp_path: Path) -> None:
    trained.save(tmp_path / "entities")
    loaded = EntityPretrainer.load(tmp_path / "entities", trained.embedder)
    with pytest.raises(DataError, match=r"the labels \['FOOL'\] are new, but the component was trained on \['LADY'"):
        loaded.fit([("Feste sings.", [(0, 5, "FOOL")]), *PAIRS], **SHORT)


def test_what_does_not_fit_is_rejected(trained: EntityPretrainer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'entities' is not fitted"):
        EntityPretrainer(embedder()).tag(["Viola"])
    trained.save(tmp_path / "entities")
    with pytest.raises(CompositionError, match=r"was trained on another base|must share the vocabulary"):
        EntityPretrainer.load(tmp_path / "entities", embedder(seed=5))
    with pytest.raises(ConfigError, match=r"Write `EntityPretrainer.load\(folder, embedder\)`"):
        EntityPretrainer.load(tmp_path / "entities")
    (tmp_path / "entities" / "labels.json").unlink()
    with pytest.raises(DataError, match=r"labels.json is missing"):
        EntityPretrainer.load(tmp_path / "entities", trained.embedder)


def test_a_head_without_labels_is_rejected(trained: EntityPretrainer, tmp_path: Path) -> None:
    trained.save(tmp_path / "entities")
    with publishing(tmp_path / "older", "component") as folder:
        for path in (tmp_path / "entities").iterdir():
            if path.name not in ("labels.json", "manifest.json"):
                (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ArtifactError, match=r"labels.json not found in .* the meaning of the outputs .* is unknown"):
        Pretrainer.load(tmp_path / "older", trained.embedder)


def test_entities_compose_with_other_components(trained: EntityPretrainer) -> None:
    other = Pretrainer(trained.embedder, {"objective": "masked_characters"}, encoder=ENCODER)
    other.fit(TEXTS, **SHORT)
    composed = ComposedModel(trained.embedder, [trained.model, other.model])
    assert composed.parts == ("entities", "masked_characters")
