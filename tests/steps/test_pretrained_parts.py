"""Components with pretrained embeddings, from params.yaml to predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from cclm_core.composition.store import load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders import AttentionConfig, Embedder, EmbedderConfig, EmbeddingConfig
from cclm_core.encoders.pretrained.catalogue import HuggingFaceConfig, VectorsConfig
from cclm_core.encoders.store import save_embedder
from cclm_core.finetuning.store import load_task
from cclm_core.huggingface.architecture import tree_of
from cclm_core.labeled.examples import write_labeled
from cclm_core.runtime.artifacts import folder_digest, publishing, read_json, verify
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.compose import compose
from cclm_core.steps.finetune import finetune
from cclm_core.steps.params import Params
from cclm_core.steps.pretrain import pretrain
from cclm_core.training.config import ComponentConfig
from tests.corpora import encode, records
from tests.encoders.pretrained.sources import write_checkpoint, write_vectors
from tests.finetuning.tasks import texts

pytest.importorskip("sklearn")
pytest.importorskip("transformers")

SMALL = {"width": 16, "num_layers": 1, "num_heads": 2}
LETTERS = {"task": {"objective": "masked_characters"}, "encoder": {"kind": "attention", **SMALL}}
SHORT = {"steps": 3, "batch_size": 4, "window": 32, "evaluate_every": 2, "evaluation_windows": 4}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "input").mkdir()
    write_checkpoint(root / "input" / "bert")
    write_vectors(root / "input" / "words.txt")
    encode(root / "encoded", records(20))
    with publishing(root / "base", "embedder") as folder:
        shape = EmbedderConfig(embedding=EmbeddingConfig(width=16, ngram_buckets=64), encoder=AttentionConfig(**SMALL))
        save_embedder(Embedder(EncodedCorpus.open(root / "encoded").preprocessor, shape), folder)
    splits = {name: texts("classify", size, size) for name, size in (("train", 48), ("validation", 16), ("test", 16))}
    with publishing(root / "labeled" / "toy", "labeled") as folder:
        write_labeled(folder, "classify", splits, ["channel"])
    return root


@pytest.fixture
def settings(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of three parts that differ; all paths are in the project."""
    monkeypatch.chdir(project)
    digest = HuggingFaceConfig(source="input/bert").digest()
    bert = {"kind": "huggingface", "source": "input/bert", "sha256": digest, "window": 48, "overlap": 8}
    vectors = VectorsConfig(source="input/words.txt")
    words = {"kind": "vectors", "source": "input/words.txt", "sha256": vectors.digest()}
    components = {
        "letters": LETTERS | {"training": SHORT},
        "bert": {"embedding": bert, "encoder": {"kind": "none"}},
        "words": {"embedding": words, "encoder": {"kind": "none"}},
    }
    task = {"data": "toy", "composition": "all", "ngrams": None, "training": {"steps": 2, "batch_size": 8}}
    return {
        "seed": 1,
        "labeled": {"toy": {}},
        "components": components,
        "compositions": {"all": {"parts": list(components)}},
        "tasks": {"toy": task},
    }


def train(settings: dict[str, Any], name: str, out: Path) -> Path:
    folders = {"encoded": Path("encoded"), "base": Path("base"), "checkpoints": out / f"{name}-checkpoints"}
    pretrain(Params(settings), name, **folders, out=out / name, report=null_report)
    return out / name


@pytest.fixture
def composed(settings: dict[str, Any], project: Path) -> Path:
    out = project / "compositions" / "all"
    if not out.is_dir():
        for name in settings["components"]:
            train(settings, name, project / "components")
        compose(Params(settings), "all", Path("base"), project / "components", out, null_report)
    return out


def test_parts_that_differ_are_composed(composed: Path) -> None:
    verify(composed, "composition")
    model = load_composition(composed)
    assert {name: slice_.stop - slice_.start for name, slice_ in model.columns.items()} == {
        "letters": 16,
        "bert": 32,
        "words": 4,
    }
    alone, empty, both = model.embed(["the cat sat.", "", "the cat sat. " * 800])
    assert alone.shape == (12, 52) and empty.shape == (0, 52) and both.shape == (10400, 52)
    assert abs(model.embed(["x", "the cat sat."])[1] - alone).max() < 1e-5


def test_a_part_with_nothing_to_train_is_published_at_once(composed: Path) -> None:
    part = composed.parents[1] / "components" / "bert"
    card, metrics = read_json(part / "card.json"), read_json(part / "metrics.json")
    assert metrics["parameters"] == 0 and metrics["fixed_parameters"] > 1000
    embedding = card["configuration"]["embedding"]
    assert embedding["source"] is None and len(embedding["sha256"]) == 64
    assert not (part / "head.safetensors").exists() and (part / "curve.csv").read_text() == "step\n0.0\n"


def test_the_same_source_at_another_path_gives_the_same_bytes(
    settings: dict[str, Any], project: Path, tmp_path: Path
) -> None:
    (project / "input" / "bert").rename(project / "input" / "moved")
    settings["components"]["bert"]["embedding"]["source"] = "input/moved"
    try:
        again = train(settings, "bert", tmp_path)
    finally:
        (project / "input" / "moved").rename(project / "input" / "bert")
    settings["components"]["bert"]["embedding"]["source"] = "input/bert"
    assert folder_digest(again) == folder_digest(train(settings, "bert", tmp_path / "first"))


@pytest.mark.parametrize("train_", ["probe", "heads", "top", "all"])
def test_a_task_is_trained_over_a_composition_with_pretrained_parts(
    settings: dict[str, Any], composed: Path, project: Path, tmp_path: Path, train_: str
) -> None:
    settings["tasks"]["toy"] |= {"train": train_}
    before = load_composition(composed).part("bert").digest
    folders = {"labeled": project / "labeled", "compositions": composed.parent, "encoded": Path("encoded")}
    finetune(Params(settings), "toy", **folders, checkpoints=tmp_path / "c", out=tmp_path / "task", report=null_report)
    model = load_task(tmp_path / "task")
    answers = model.predict(["the cat", "", "a " * 600])
    assert len(answers) == 3 and all(answer["label"] for answer in answers)
    encoder: Any = model.encoder
    assert encoder.part("bert").digest == before, "a frozen checkpoint stays frozen"


def test_a_trained_checkpoint_changes_with_its_component(settings: dict[str, Any], tmp_path: Path) -> None:
    source = settings["components"]["bert"]["embedding"]
    settings["components"]["bert"] = LETTERS | {"embedding": source | {"trained": True}, "training": SHORT}
    settings["components"]["frozen"] = LETTERS | {"embedding": source, "training": SHORT}
    trained, frozen = (read_json(train(settings, name, tmp_path) / "metrics.json") for name in ("bert", "frozen"))
    assert trained["parameters"] > frozen["parameters"] and frozen["fixed_parameters"] > 1000
    assert "fixed_parameters" not in trained


def test_a_changed_file_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["components"]["words"]["embedding"]["sha256"] = "0" * 64
    with pytest.raises(IntegrityError, match=r"input/words\.txt has the SHA-256"):
        train(settings, "words", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "/etc/passwd"}, r"components\.words\.embedding\.source must be in input/"),
        ({"source": "input/../x"}, "must be in input/"),
        ({"sha256": None}, r"components\.words\.embedding\.sha256 is missing.*Add `sha256: [0-9a-f]{64}`"),
        ({"kind": "vectros"}, "did you mean 'vectors'"),
        ({"max_word": 3}, "did you mean 'max_words'"),
    ],
)
def test_a_wrong_source_is_refused_before_anything_runs(
    settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    settings["components"]["words"]["embedding"] |= change
    with pytest.raises(ConfigError, match=message):
        Params(settings).named(ComponentConfig, "words")


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"encoder": {"kind": "none"}, "task": {"objective": "entities"}}, "task must be null"),
        ({"encoder": {"kind": "none"}, "training": {"steps": 3}}, "training.steps must be 0"),
        ({"encoder": {"kind": "attention"}}, "task is missing. Add it"),
        (LETTERS | {"independent": True, "embedding": {"kind": "characters"}}, "not both"),
    ],
)
def test_a_contradictory_component_is_refused(
    settings: dict[str, Any], component: dict[str, Any], message: str
) -> None:
    settings["components"]["words"] = component
    with pytest.raises(ConfigError, match=message):
        Params(settings).named(ComponentConfig, "words")


def test_the_features_of_the_base_alone_are_a_part(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["components"]["letters"] = {"encoder": {"kind": "none"}}
    part = train(settings, "letters", tmp_path)
    card = json.loads((part / "component.json").read_text())
    assert card["format"] == "cclm-component-1" and card["base_digest"] and card["objective"] == "none"


def test_a_composition_with_a_pretrained_part_is_not_exported(composed: Path) -> None:
    with pytest.raises(ConfigError, match=r"'bert'.* has a pretrained embedding"):
        tree_of(load_composition(composed))
