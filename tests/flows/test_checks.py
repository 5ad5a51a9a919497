"""Mistakes in params.yaml and dvc.yaml are reported before anything runs, the same in `cclm status` and `cclm run`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ConfigError
from flows.gate.measured import refuse_unmeasured
from flows.graph.plan import read_plan
from flows.project import Project
from flows.run.checks import check_files, check_parameters
from tests.flows.conftest import Toy

ROOT = Path(__file__).parents[2]
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The files of the default pipeline in a folder of their own."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def change(project: Project, name: str, edit: Change) -> None:
    path = project.root / name
    values = yaml.safe_load(path.read_text())
    edit(values)
    path.write_text(yaml.safe_dump(values))


def test_the_default_pipeline_has_no_problem(library: Project) -> None:
    assert check_files(library) == []
    check_parameters(library)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda values: values.pop("seed"), "params.yaml: seed is missing, but stage ingest .* Add `seed: 1`"),
        (lambda values: values.pop("vocabulary"), r"vocabulary is missing, .* Add `vocabulary: \{\}`, .* the defaults"),
        (lambda values: values.pop("training_noise"), r"training_noise is missing, but stage base .*"),
        (lambda values: values.update(vocabulry={}), "vocabulry is not a known section; did you mean 'vocabulary'"),
        (lambda values: values["components"].update({2024: {}}), "YAML reads the key 2024 as an int. Put it in quotes"),
        (lambda values: values["promotion"].update(improved=0), "params.yaml: promotion: improved"),
        (
            lambda values: values.pop("labeled"),
            r"labeled is missing, but stages.labeled .* Write `labeled: \{\}` for none",
        ),
        (lambda values: values.update(labeled=None), r"labeled is empty, but stages.labeled .* Write `labeled: \{\}`"),
    ],
)
def test_a_section_that_is_missing_or_unknown_is_refused(library: Project, edit: Change, message: str) -> None:
    change(library, "params.yaml", edit)
    with pytest.raises(ConfigError, match=message):
        check_files(library)


def test_names_that_dvc_yaml_and_params_yaml_do_not_share_are_refused(library: Project) -> None:
    change(library, "dvc.yaml", lambda values: values["stages"]["compose"].update(foreach=["full", "language"]))
    with pytest.raises(ConfigError, match=r"compositions.control has no stage in dvc.yaml that makes it. Write"):
        check_files(library)
    change(library, "dvc.yaml", lambda values: values["stages"]["compose"].update(foreach="${compositions}"))
    change(library, "dvc.yaml", lambda values: values["stages"]["evaluate"].update(foreach=["full", "language"]))
    with pytest.raises(ConfigError, match=r"compositions.control has no stage in dvc.yaml that evaluates it"):
        check_files(library)
    change(library, "dvc.yaml", lambda values: values["stages"]["compose"].update(foreach=["full", "langauge"]))
    with pytest.raises(ConfigError, match=r"reads compositions.langauge, which params.yaml does not .*'language'"):
        check_files(library)


def test_a_key_that_dvc_yaml_lists_and_params_yaml_leaves_out_is_refused(library: Project) -> None:
    change(library, "dvc.yaml", lambda values: values["stages"]["noise"]["params"].append("noise.sets"))
    change(library, "params.yaml", lambda values: values["noise"].pop("sets"))
    with pytest.raises(ConfigError, match=r"noise.sets is missing, .* list `noise` there"):
        check_files(library)


def test_a_section_that_no_stage_reads_is_refused(library: Project) -> None:
    change(library, "dvc.yaml", lambda values: values["stages"].pop("noise"))
    with pytest.raises(ConfigError, match=r"params.yaml: noise is read by no stage of dvc.yaml"):
        check_files(library)


def test_an_unused_component_and_an_unwatched_source_are_warnings(library: Project) -> None:
    component = {"task": {"objective": "entities"}, "training": {"steps": 1, "batch_size": 1}}
    corrector = component | {"task": {"objective": "denoise", "noise": {"rate": 0.1}}}
    source = {"kind": "files", "paths": ["mails.csv", "misspellings/list.csv"]}
    change(library, "params.yaml", lambda values: values["components"].update(spare=component, corrector=corrector))
    change(library, "params.yaml", lambda values: values["ingest"].update(source=source))
    spare, unwatched, _ = check_files(library)
    assert spare.startswith("params.yaml: components.spare is in no composition")
    assert unwatched.startswith("dvc.yaml: mails.csv is missing in `deps` of stages.ingest")
    change(library, "dvc.yaml", lambda values: values["stages"]["ingest"]["deps"].extend(["mails.csv", "misspellings"]))
    assert len(check_files(library)) == 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda values: values["vocabulary"].update(min_cuont=1),
            "min_cuont is not a known key; did you .* 'min_count'",
        ),
        (lambda values: values["compositions"]["full"]["parts"].append("wrods"), "'wrods' not found in components"),
        (
            lambda values: values["promotion"]["metrics"].update(genre_accuracy={"margin": 0.1}),
            r"promotion.metrics.genre_accuracy is not a metric of the evaluation; .*label_accuracy",
        ),
        (
            lambda values: values["promotion"]["metrics"].update({"entity_f1_noise_0.3": {"margin": 0.1}}),
            r"promotion.metrics.entity_f1_noise_0.3 is not a metric of the evaluation; did you mean 'entity_f1_noise",
        ),
        (
            lambda values: values["evaluation"].update(probes=[{"probe": "characters"}]),
            "promotion.metrics.entity_f1_clean is not a metric of the evaluation",
        ),
    ],
)
def test_an_invalid_value_is_refused_once_and_after_every_change(library: Project, edit: Change, message: str) -> None:
    check_parameters(library)
    change(library, "params.yaml", edit)
    for _ in range(2):
        with pytest.raises(ConfigError, match=message):
            check_parameters(library)


def test_every_metric_of_a_set_can_decide(library: Project) -> None:
    names = (
        "label_accuracy_noise_0.1",
        "entity_recall_natural",
        "label_macro_f1",
        "contribution/entities/label_accuracy",
    )
    metrics = {name: {"margin": 0.1} for name in names}
    change(library, "params.yaml", lambda values: values["promotion"].update(metrics=metrics))
    check_parameters(library)


def test_an_unknown_stage_to_force_is_refused_before_prefect_starts(done: Toy) -> None:
    done.params(lambda values: values["components"]["a"].update(width=4))
    result = done.run("cclm", "run", "--force", "trian@a", check=False)
    assert result.returncode == 2 and "trian@a is not a stage of dvc.yaml; did you mean 'train@a'?" in result.stderr
    assert "Prefect" not in result.stderr


def test_a_metric_that_this_corpus_does_not_have_is_refused_with_those_that_exist(done: Toy) -> None:
    refuse_unmeasured(done, read_plan(done))
    done.params(lambda values: values.update(promotion={"metrics": {"f1": "higher", "entity_f1_clean": "higher"}}))
    skipped = {"tags": "the test documents have no entities.", "contributions": "x"}
    write_json(done.root / "results/both/evaluation.json", {"metrics": {}, "skipped": skipped})
    done.dvc("commit", "-f", "evaluate@both")
    message = (
        "promotion.metrics: entity_f1_clean is not in the evaluation of both; tags was skipped: the test documents "
        "have no entities. Remove it, or choose from: f1, nested.bits"
    )
    with pytest.raises(ConfigError, match=message):
        refuse_unmeasured(done, read_plan(done))
    for command in ("status", "run"):
        result = done.run("cclm", command, check=False)
        assert result.returncode == 2 and message in result.stderr
    done.params(lambda values: values.update(records=9))  # other data may have entities
    refuse_unmeasured(done, read_plan(done))


def test_a_source_file_that_does_not_exist_is_refused_before_prefect_starts(project: Toy) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, project.root)
    source = {"kind": "files", "paths": ["mails.csv"]}
    sizes = {"validation_share": 0.1, "test_share": 0.1}
    project.params(lambda values: values.update(ingest={"source": source, **sizes}))
    result = project.run("cclm", "run", check=False)
    assert result.returncode == 2 and "Prefect" not in result.stderr
    assert "error: params.yaml: ingest.source.paths: mails.csv not found." in result.stderr
    # A setting of the command line that is valid, but refused like this, does not stay in params.yaml.
    shutil.copy(ROOT / "params.yaml", project.root)
    former = project.params_file.read_bytes()
    result = project.run("cclm", "run", "--set", "ingest.source={kind: files, paths: [mails.csv]}", check=False)
    assert result.returncode == 2 and "mails.csv not found" in result.stderr
    assert project.params_file.read_bytes() == former


def test_a_file_of_labeled_data_that_does_not_exist_is_refused_before_prefect_starts(project: Toy) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, project.root)
    (project.root / "input").mkdir()
    source = {"kind": "files", "paths": "input/mails.csv", "columns": {"label": "label"}}
    mails = {"task": "classify", "source": source, "test": {"paths": ["input/test.csv"]}}
    project.params(lambda values: values.update(labeled={"mails": mails}))
    result = project.run("cclm", "run", "--target", "labeled", check=False)
    assert result.returncode == 2 and "Prefect" not in result.stderr
    assert "error: params.yaml: labeled.mails.source.paths: input/mails.csv not found." in result.stderr
    (project.root / "input/mails.csv").touch()
    result = project.run("cclm", "status", check=False)
    assert "params.yaml: labeled.mails.test.paths: input/test.csv not found." in result.stderr
