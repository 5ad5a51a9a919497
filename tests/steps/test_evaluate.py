"""The stage `evaluate`: published files, reproducibility, and rejected inputs."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from cclm_core.composition import Component, ComponentCard
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.corpus.records import SCHEMA
from cclm_core.encoders import HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.evaluation.files import write_evaluation
from cclm_core.evaluation.metrics import Bootstrap, read_metrics
from cclm_core.evaluation.result import Evaluation
from cclm_core.runtime.artifacts import folder_digest, publishing, rounded, verify
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError, IntegrityError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.evaluate import evaluate
from cclm_core.steps.params import Params
from cclm_core.text.vocabulary import Preprocessor
from tests.evaluation.fakes import SMALL, clean_set, encode, make_records

ENCODER = HourglassConfig.model_validate({"core_width": 32, "num_layers": 1, "num_heads": 2, "width": 16})
FILES = {
    "metrics.json",
    "evaluation.json",
    "noise_curve.csv",
    "entities.csv",
    "confusion.csv",
    "predictions.jsonl",
    "plots/noise_curve.png",
    "plots/confusion.png",
    "manifest.json",
}


def compose(folder: Path, preprocessor: Preprocessor) -> Path:
    """Publishes an untrained composition."""
    config = EmbedderConfig.model_validate({"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": ENCODER})
    with seeded_initialization(1):
        base = Embedder(preprocessor, config)
        card = ComponentCard(
            name="part",
            objective="entities",
            base_width=base.width,
            base_digest=base.digest,
            preprocessor_digest=preprocessor.digest,
            encoder=ENCODER,
        )
        model = ComposedModel(base, [Component(card)], "pair")
    with publishing(folder, "composition") as writing:
        save(model, writing)
    return folder


SETS = pa.schema([SCHEMA.field(name) for name in ("id", "text", "label", "entities")])


def write_noise(folder: Path, is_labeled: bool = True) -> Path:
    """Publishes a clean set, and the same texts as the set with noise rate 0.1."""
    rows = clean_set(make_records(sizes=(60, 20, 20)))
    entities = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in spans] for spans in rows.entities]
    frame = pd.DataFrame({"id": rows.ids, "text": rows.texts, "label": rows.labels, "entities": entities})
    if not is_labeled:
        frame = frame.assign(label=None, entities=pd.Series([[]] * len(frame)))
    with publishing(folder, "noise") as writing:
        for name in ("clean", "rate-0.1"):
            frame.to_parquet(writing / f"{name}.parquet", schema=SETS)
    return folder


class Project:
    """Parameters and inputs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.params, self.encoded = folder / "params.yaml", folder / "encoded"
        self.params.write_text(yaml.safe_dump({"seed": 1, "evaluation": SMALL.canonical()}))
        corpus = encode(folder, make_records(sizes=(60, 20, 20)))
        self.composition = compose(folder / "composition", corpus.preprocessor)
        self.noise = write_noise(folder / "noise")

    def run(self, out: Path, **changes: Path) -> Path:
        """Evaluates into `out`. `changes` replace inputs."""
        inputs = {"params": self.params, "composition": self.composition, "encoded": self.encoded, "noise": self.noise}
        arguments: dict[str, Any] = inputs | changes
        evaluate(name="pair", out=out, report=null_report, **arguments | {"params": Params.load(arguments["params"])})
        return out


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def results(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.run(tmp_path_factory.mktemp("results") / "pair")


def test_all_files_are_published(results: Path) -> None:
    verify(results, "evaluation")
    assert {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()} == FILES
    metrics = json.loads((results / "metrics.json").read_text())
    expected = {"bits_per_masked_character", "parameters", "width", "label_accuracy", "label_macro_f1"}
    expected |= {"bits_per_masked_character_unigram", "bits_per_masked_character_trigram", "label_accuracy_majority"}
    expected |= {"entity_f1_clean", "entity_f1_noise_0.1", "entity_precision_clean", "label_accuracy_ngrams"}
    assert expected <= metrics.keys()
    assert all(isinstance(value, int) or rounded(value) == value for value in metrics.values())


def test_configuration_and_digests_are_stored(results: Path, project: Project) -> None:
    card = json.loads((results / "evaluation.json").read_text())
    assert card["configuration"] == json.loads(json.dumps(SMALL.canonical()))
    assert card["composition"] == folder_digest(project.composition)
    assert card["skipped"] == {}
    metrics = read_metrics(results)
    values = json.loads((results / "metrics.json").read_text())
    assert {name: metric.value for name, metric in metrics.items()} == values
    assert [baseline.name for baseline in metrics["label_accuracy"].baselines] == ["ngrams", "majority"]


def test_tables_and_examples_agree_with_the_metrics(results: Path) -> None:
    metrics = json.loads((results / "metrics.json").read_text())
    curve = pd.read_csv(results / "noise_curve.csv")
    assert curve["rate"].tolist() == [0.0, 0.1]
    assert curve["entity_f1"].tolist() == [metrics["entity_f1_clean"], metrics["entity_f1_noise_0.1"]]
    confusion = pd.read_csv(results / "confusion.csv")
    assert (confusion["true"] == confusion["predicted"]).mean() == pytest.approx(metrics["label_accuracy"], abs=1e-5)
    for line in (results / "predictions.jsonl").read_text().splitlines():
        example = json.loads(line)
        for start, end, _, text in example["entities"] + example["predicted_entities"]:
            assert example["text"][start:end] == text


def test_equal_inputs_give_equal_bytes(results: Path, project: Project, tmp_path: Path) -> None:
    assert folder_digest(project.run(tmp_path / "again")) == folder_digest(results)


def test_another_seed_gives_other_metrics(results: Path, project: Project, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"seed": 2, "evaluation": SMALL.canonical()}))
    other = project.run(tmp_path / "other", params=params)
    assert (other / "metrics.json").read_bytes() != (results / "metrics.json").read_bytes()


def test_probes_without_data_are_skipped_with_a_reason(project: Project, tmp_path: Path) -> None:
    out = project.run(tmp_path / "out", noise=write_noise(tmp_path / "noise", is_labeled=False))
    metrics = json.loads((out / "metrics.json").read_text())
    card = json.loads((out / "evaluation.json").read_text())
    assert not any(name.startswith("entity") for name in metrics) and "bits_per_masked_character" in metrics
    assert "tags" in card["skipped"] and not (out / "entities.csv").exists()
    assert "NaN" not in (out / "metrics.json").read_text()


def test_a_composition_with_another_vocabulary_is_rejected(project: Project, tmp_path: Path) -> None:
    foreign = compose(tmp_path / "foreign", Preprocessor(alphabet="xyz"))
    with pytest.raises(CompositionError, match="vocabularies differ"):
        project.run(tmp_path / "out", composition=foreign)
    assert not (tmp_path / "out").exists()


def test_missing_damaged_and_wrong_inputs_are_rejected(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        project.run(tmp_path / "out", noise=tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="composition"):
        project.run(tmp_path / "out", composition=project.noise)
    damaged = compose(tmp_path / "damaged", Preprocessor(alphabet="xyz"))
    (damaged / "composition.json").write_text("{}")
    with pytest.raises(IntegrityError, match="altered"):
        project.run(tmp_path / "out", composition=damaged)


def test_a_misspelled_key_is_rejected_with_a_suggestion(project: Project, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"seed": 1, "evaluation": {"thread": 1}}))
    with pytest.raises(ConfigError, match="did you mean 'threads'"):
        project.run(tmp_path / "out", params=params)


@pytest.mark.slow
def test_nested_compositions_can_be_evaluated_and_shared_weights_count_once(
    project: Project, results: Path, tmp_path: Path
) -> None:
    inner = load_composition(project.composition)
    copy = load_composition(project.composition)
    with publishing(tmp_path / "nested", "composition") as folder:
        save(ComposedModel(inner.base, [inner, *copy._parts.values()], "nested"), folder)
    out = project.run(tmp_path / "out", composition=tmp_path / "nested")
    metrics = json.loads((out / "metrics.json").read_text())
    plain = json.loads((results / "metrics.json").read_text())
    component_parameters = sum(weight.numel() for weight in inner.components.parameters())
    contributions = {name for name in metrics if name.startswith("contribution/")}
    assert metrics.keys() - contributions == plain.keys() and metrics["width"] == 2 * plain["width"]
    assert metrics["parameters"] == plain["parameters"] + component_parameters
    rows = pd.read_csv(out / "contribution.csv")
    assert {f"contribution/{row.component}/{row.metric}" for row in rows.itertuples()} == contributions
    assert set(rows["component"]) == {"pair", "part"} and len(rows) == 2 * 4
    contribution = metrics["contribution/pair/entity_f1_clean"]
    assert contribution == pytest.approx(
        metrics["entity_f1_clean"]
        - rows.set_index(["component", "metric"]).loc[("pair", "entity_f1_clean"), "without"],
        abs=1e-5,
    )
    assert (out / "plots/contribution.png").stat().st_size > 1000
    again = project.run(tmp_path / "again", composition=tmp_path / "nested")
    assert folder_digest(again) == folder_digest(out)


def test_spreadsheets_show_labels_instead_of_running_them(tmp_path: Path) -> None:
    evaluation = Evaluation(Bootstrap(), 1)
    labels = ["=1+1", "+1", "-1", "@sum", "happy", r"$\frac{$"]
    evaluation.tables["confusion"] = [{"id": label, "true": label, "predicted": labels[0]} for label in labels]
    evaluation.tables["entities"] = [{"label": label, "gold": -1.5} for label in labels]
    write_evaluation(tmp_path, r"$\frac{$", evaluation, {})
    rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert rows[1] == "'=1+1,'=1+1,'=1+1" and rows[5] == "happy,happy,'=1+1"
    assert (tmp_path / "entities.csv").read_text().splitlines()[3] == "'-1,-1.5"


def test_warnings_are_published_and_printed(results: Path, project: Project, tmp_path: Path, capsys: Any) -> None:
    project.run(tmp_path / "pair")
    warnings = json.loads((results / "evaluation.json").read_text())["warnings"]
    assert len(warnings) == 2 and all("only 20 of 20 test documents" in warning for warning in warnings)
    assert f"warning: pair: {warnings[0]}" in capsys.readouterr().err
