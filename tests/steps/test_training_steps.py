"""The stages `base`, `pretrain` and `compose`: published files, and rejected inputs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cclm_core.composition.store import load_composition
from cclm_core.runtime.artifacts import folder_digest, verify
from cclm_core.runtime.errors import ArtifactError, CclmError, CompositionError, ConfigError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.base import base
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from cclm_core.steps.pretrain import pretrain
from cclm_core.steps.vocab import vocab
from tests.corpora import encode, records
from tests.steps.test_vocab import corpus_of

TRAINING = {"steps": 3, "batch_size": 2, "window": 32, "evaluation_windows": 2}
ENCODER = {"core_width": 32, "num_layers": 1, "num_heads": 2, "width": 16}
PARAMS = {
    "seed": 3,
    "base": {
        "embedder": {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": ENCODER},
        "training": TRAINING,
    },
    "components": {
        name: {"task": {"objective": name}, "encoder": ENCODER, "training": TRAINING}
        for name in ("masked_characters", "entities")
    },
    "compositions": {
        "pair": {"parts": ["masked_characters", "entities"]},
        "control": {"parts": ["masked_characters", "entities"], "untrained": True},
        "alone": {"parts": ["entities"]},
        "misspelled": {"parts": ["entities", "masked_charakters"]},
    },
}


class Project:
    """A folder with parameters, an encoded corpus, and the outputs of the stages."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.params = folder, folder / "params.yaml"
        self.encoded, self.base = folder / "encoded", folder / "base"
        self.write(PARAMS)

    def write(self, params: dict[str, object]) -> None:
        self.params.write_text(yaml.safe_dump(params))

    def run_base(self, out: Path | None = None) -> None:
        base(
            Params.load(self.params), self.encoded, self.folder / "checkpoints" / "base", out or self.base, null_report
        )

    def run_pretrain(self, name: str, base: Path | None = None) -> Path:
        out = self.folder / name
        pretrain(
            Params.load(self.params),
            name,
            self.encoded,
            base or self.base,
            self.folder / "checkpoints" / name,
            out,
            null_report,
        )
        return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    encode(project.encoded, records(40))
    project.run_base()
    for name in ("masked_characters", "entities"):
        project.run_pretrain(name)
    return project


def test_a_published_component_has_card_metrics_and_curve(trained: Project) -> None:
    folder = trained.folder / "entities"
    verify(folder, "component")
    card = json.loads((folder / "card.json").read_text())
    assert card["base"] == folder_digest(trained.base) and card["data"] == folder_digest(trained.encoded)
    assert card["configuration"]["training"]["learning_rate"] == 0.004, "the card must contain defaults"
    assert json.loads((folder / "metrics.json").read_text()).keys() >= {"held_out_bits_per_tag", "parameters", "loss"}
    assert (folder / "curve.csv").read_text().startswith("step,")


def test_a_lost_result_is_restored_from_the_last_checkpoint(trained: Project) -> None:
    out, steps = trained.folder / "entities", list[int]()
    before = folder_digest(out)
    shutil.rmtree(out)
    checkpoints = trained.folder / "checkpoints" / "entities"
    pretrain(
        Params.load(trained.params),
        "entities",
        trained.encoded,
        trained.base,
        checkpoints,
        out,
        lambda step, *_: steps.append(step),
    )
    assert folder_digest(out) == before and steps == []


def test_a_stage_is_reproducible(trained: Project, tmp_path: Path) -> None:
    trained.run_base(tmp_path / "again")
    assert folder_digest(tmp_path / "again") == folder_digest(trained.base)


def test_a_composition_embeds_texts_and_its_control_is_untrained(trained: Project, tmp_path: Path) -> None:
    for name in ("pair", "control"):
        compose(Params.load(trained.params), name, trained.base, trained.folder, tmp_path / name, null_report)
        verify(tmp_path / name, "composition")
    pair, control = (load_composition(tmp_path / name) for name in ("pair", "control"))
    assert pair.parts == ("masked_characters", "entities")
    assert [features.shape for features in pair.embed(["Viola", ""])] == [(5, 32), (0, 32)]
    assert abs(pair.embed(["Viola"])[0] - control.embed(["Viola"])[0]).max() > 1e-3


def test_a_missing_part_is_rejected_with_a_suggestion(trained: Project, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"misspelled\.parts: masked_charakters not found in .*; did you mean 'masked_characters'\?",
    ):
        compose(Params.load(trained.params), "misspelled", trained.base, trained.folder, tmp_path / "out", null_report)
    with pytest.raises(ArtifactError, match=r"entities not found in .*nowhere; the folder is empty"):
        compose(Params.load(trained.params), "alone", trained.base, tmp_path / "nowhere", tmp_path / "out", null_report)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"compositions\.pear not found; did you mean 'pair'"):
        compose(Params.load(trained.params), "pear", trained.base, trained.folder, tmp_path / "out", null_report)


def test_a_missing_base_is_rejected(trained: Project, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        trained.run_pretrain("entities", base=tmp_path / "nowhere")


def test_an_altered_base_is_rejected(trained: Project, tmp_path: Path) -> None:
    trained.run_base(tmp_path / "base")
    (tmp_path / "base" / "embedder.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"embedder\.json"):
        trained.run_pretrain("entities", base=tmp_path / "base")


def test_a_component_of_another_base_is_rejected_and_the_published_composition_is_kept(
    trained: Project, tmp_path: Path
) -> None:
    compose(Params.load(trained.params), "alone", trained.base, trained.folder, tmp_path / "pair", null_report)
    before = folder_digest(tmp_path / "pair")
    other = Project(tmp_path)
    other.write(PARAMS | {"seed": 4})
    base(Params.load(other.params), trained.encoded, tmp_path / "checkpoints", tmp_path / "other", null_report)
    with pytest.raises(CompositionError, match="was trained on another base"):
        compose(
            Params.load(trained.params), "alone", tmp_path / "other", trained.folder, tmp_path / "pair", null_report
        )
    assert folder_digest(tmp_path / "pair") == before
    assert not list(tmp_path.glob(".pair.*writing"))


NEXT = {"task": {"objective": "next_characters"}, "training": TRAINING}


def with_components(trained: Project, folder: Path, **components: dict[str, object]) -> Project:
    """A new project with the base and the corpus of `trained`."""
    project = Project(folder)
    project.write(PARAMS | {"components": components})
    project.encoded, project.base = trained.encoded, trained.base
    return project


def test_an_independent_causal_component_can_join_a_bidirectional_base(trained: Project, tmp_path: Path) -> None:
    causal = ENCODER | {"causal": True}
    project = with_components(trained, tmp_path, next=NEXT | {"encoder": causal, "independent": True})
    parts = {"parts": ["entities", "next"]}
    project.write(
        yaml.safe_load(project.params.read_text())
        | {"compositions": {"pair": parts, "control": parts | {"untrained": True}}}
    )
    part = project.run_pretrain("next")
    assert json.loads((part / "metrics.json").read_text())["held_out_bits_per_character"] > 0
    shutil.copytree(trained.folder / "entities", tmp_path / "entities")
    for name in ("pair", "control"):
        compose(Params.load(project.params), name, trained.base, tmp_path, tmp_path / name, null_report)
    pair, control = (load_composition(tmp_path / name) for name in ("pair", "control"))
    assert pair.parts == ("entities", "next")
    beginning, whole = (pair.embed([text])[0] for text in ("Viola lo", "Viola loves"))
    assert abs(beginning[:, 16:] - whole[:8, 16:]).max() < 1e-5 < abs(beginning[:, :16] - whole[:8, :16]).max()
    assert abs(control.embed(["Viola"])[0] - pair.embed(["Viola"])[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("encoder", "independent", "message"),
    [
        (
            {"causal": True},
            False,
            r"'next' \(hourglass, causal: true\) reads the base \(hourglass, causal: false\)",
        ),
        ({}, False, r"predicts later characters .* the component 'next' \(hourglass, causal: false\) is not"),
        ({}, True, r"predicts later characters .* the component 'next' \(hourglass, causal: false\) is not"),
        ({"kind": "convolution", "causal": True}, True, "global_width must be 0 in a causal convolution, got 64"),
    ],
)
def test_a_component_that_could_see_its_targets_is_rejected(
    trained: Project, tmp_path: Path, encoder: dict[str, object], independent: bool, message: str
) -> None:
    shape = encoder if "kind" in encoder else ENCODER | encoder
    project = with_components(trained, tmp_path, next=NEXT | {"encoder": shape, "independent": independent})
    with pytest.raises(CclmError, match=message):
        project.run_pretrain("next")
    assert not (tmp_path / "next").exists()


def masked_words(**loss: object) -> dict[str, object]:
    return {"objective": "masked_words", "rate": 0.4} | ({"loss": loss} if loss else {})


WORDS = PARAMS | {
    "base": {
        "embedder": {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": ENCODER},
        "objectives": [{"task": masked_words(kind="sampled_softmax", num_draws=8)}, {}],
        "training": TRAINING,
    },
    "components": {
        kind: {
            "task": masked_words(kind=kind),
            "encoder": ENCODER,
            "training": TRAINING | {"evaluate_every": 1, "checkpoint_every": 1},
        }
        for kind in ("full_softmax", "sampled_softmax", "negative_sampling")
    },
}


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_masked_words_train_a_base_and_components(tmp_path: Path, kind: str) -> None:
    project, corpus = Project(tmp_path), corpus_of(tmp_path / "corpus", records(40))
    project.write(WORDS | {"vocabulary": {"words": {"kind": kind, "max_targets": 60, "min_count": 1}}})
    vocab(Params.load(project.params), corpus, project.encoded, null_report)
    project.run_base()
    figures = json.loads((project.base / "metrics.json").read_text())
    assert figures["held_out_bits_per_masked_word"] > 0 < figures["held_out_bits_per_masked_character"]
    for loss in ("full_softmax", "sampled_softmax", "negative_sampling"):
        part = project.run_pretrain(loss)
        verify(part, "component")
        assert json.loads((part / "card.json").read_text())["configuration"]["task"]["loss"]["kind"] == loss
        figures = json.loads((part / "metrics.json").read_text())
        assert figures.keys() >= {"loss", "held_out_bits_per_masked_word", "held_out_masked_word_accuracy"}
    # An interrupted and resumed training gives the same component, although targets are drawn for every batch.
    for loss in ("sampled_softmax", "negative_sampling"):
        first = folder_digest(project.folder / loss)
        checkpoints = project.folder / "checkpoints" / loss
        shutil.rmtree(checkpoints)
        with pytest.raises(KeyboardInterrupt):
            pretrain(
                Params.load(project.params),
                loss,
                project.encoded,
                project.base,
                checkpoints,
                project.folder / loss,
                interrupt,
            )
        assert [path.name[:13] for path in checkpoints.rglob("step-*")] == ["step-00000001"]
        assert folder_digest(project.run_pretrain(loss)) == first


def interrupt(step: int, values: object, total: int | None = None) -> None:  # noqa: ARG001
    if step == 2:
        raise KeyboardInterrupt


def test_masked_words_are_rejected_without_word_targets(trained: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(WORDS)
    project.encoded, project.base = trained.encoded, trained.base
    with pytest.raises(ConfigError, match=r"this one has none\. Set `vocabulary\.words` in params\.yaml"):
        project.run_pretrain("full_softmax")
    assert not (tmp_path / "full_softmax").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compnents": {}}, "compnents is not a known section; did you mean 'components'"),
        ({"components": {"entity": {}}}, "components.entities not found; did you mean 'entity'"),
        (
            {"components": {"entities": {"task": {"objective": "entities"}, "training": {"step": 3}}}},
            "training.step is not a known key; did you mean 'steps'",
        ),
        ({"components": {"entities": {"task": {"objective": "entitees"}}}}, "entitees"),
    ],
)
def test_an_error_names_the_invalid_parameter(trained: Project, tmp_path: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    project = Project(tmp_path)
    project.write(PARAMS | change)
    project.encoded, project.base = trained.encoded, trained.base
    with pytest.raises(ConfigError, match=message):
        project.run_pretrain("entities")
    assert not (tmp_path / "entities").exists()
