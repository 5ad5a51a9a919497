"""The stages base, pretrain and compose over files: what they publish, and what they refuse."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cclm_core.composition.store import load_composition
from cclm_core.runtime.artifacts import folder_digest, verify
from cclm_core.runtime.errors import ArtifactError, CclmError, CompositionError, ConfigError, IntegrityError
from cclm_core.runtime.reporting import silent
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
    """A folder with parameters, an encoded corpus, and the paths of what the stages make of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.params = folder, folder / "params.yaml"
        self.encoded, self.base = folder / "encoded", folder / "base"
        self.write(PARAMS)

    def write(self, params: dict[str, object]) -> None:
        self.params.write_text(yaml.safe_dump(params))

    def run_base(self, out: Path | None = None) -> None:
        base(Params.load(self.params), self.encoded, self.folder / "checkpoints" / "base", out or self.base, silent)

    def run_pretrain(self, name: str, base: Path | None = None) -> Path:
        out = self.folder / name
        pretrain(
            Params.load(self.params),
            name,
            self.encoded,
            base or self.base,
            self.folder / "checkpoints" / name,
            out,
            silent,
        )
        return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    encode(project.encoded, records(40))
    project.run_base()
    for name in ("masked_characters", "entities"):
        project.run_pretrain(name)
    return project


def test_a_component_publishes_weights_head_curve_figures_and_what_it_is(made: Project) -> None:
    folder = made.folder / "entities"
    verify(folder, "component")
    card = json.loads((folder / "card.json").read_text())
    assert card["base"] == folder_digest(made.base) and card["data"] == folder_digest(made.encoded)
    assert card["configuration"]["training"]["learning_rate"] == 0.004, "defaults are written out"
    assert json.loads((folder / "metrics.json").read_text()).keys() >= {"held_out_bits_per_tag", "parameters", "loss"}
    assert (folder / "curve.csv").read_text().startswith("step,")


def test_a_training_whose_result_was_lost_goes_on_from_its_end(made: Project) -> None:
    out, steps = made.folder / "entities", list[int]()
    before = folder_digest(out)
    shutil.rmtree(out)
    checkpoints = made.folder / "checkpoints" / "entities"
    pretrain(
        Params.load(made.params),
        "entities",
        made.encoded,
        made.base,
        checkpoints,
        out,
        lambda step, *_: steps.append(step),
    )
    assert folder_digest(out) == before and steps == []


def test_the_same_stage_gives_the_same_bytes_beside_another_or_alone(made: Project, tmp_path: Path) -> None:
    made.run_base(tmp_path / "again")
    assert folder_digest(tmp_path / "again") == folder_digest(made.base)


def test_a_composition_loads_and_embeds_and_its_control_is_untrained(made: Project, tmp_path: Path) -> None:
    for name in ("pair", "control"):
        compose(Params.load(made.params), name, made.base, made.folder, tmp_path / name, silent)
        verify(tmp_path / name, "composition")
    pair, control = (load_composition(tmp_path / name) for name in ("pair", "control"))
    assert pair.parts == ("masked_characters", "entities")
    assert [features.shape for features in pair.embed(["Viola", ""])] == [(5, 32), (0, 32)]
    assert abs(pair.embed(["Viola"])[0] - control.embed(["Viola"])[0]).max() > 1e-3


def test_a_part_that_is_missing_is_refused_and_the_nearest_one_is_named(made: Project, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"misspelled\.parts: masked_charakters not found in .*; did you mean 'masked_characters'\?",
    ):
        compose(Params.load(made.params), "misspelled", made.base, made.folder, tmp_path / "out", silent)
    with pytest.raises(ArtifactError, match=r"entities not found in .*nowhere; the folder holds no component"):
        compose(Params.load(made.params), "alone", made.base, tmp_path / "nowhere", tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"compositions\.pear not found; did you mean 'pair'"):
        compose(Params.load(made.params), "pear", made.base, made.folder, tmp_path / "out", silent)


def test_a_component_that_names_a_missing_base_is_refused(made: Project, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"embedder or composition not found: .*nowhere does not exist"):
        made.run_pretrain("entities", base=tmp_path / "nowhere")


def test_an_altered_base_is_refused(made: Project, tmp_path: Path) -> None:
    made.run_base(tmp_path / "base")
    (tmp_path / "base" / "embedder.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"embedder.json is altered"):
        made.run_pretrain("entities", base=tmp_path / "base")


def test_a_component_of_another_base_is_refused_and_the_old_composition_stays(made: Project, tmp_path: Path) -> None:
    compose(Params.load(made.params), "alone", made.base, made.folder, tmp_path / "pair", silent)
    before = folder_digest(tmp_path / "pair")
    other = Project(tmp_path)
    other.write(PARAMS | {"seed": 4})
    base(Params.load(other.params), made.encoded, tmp_path / "checkpoints", tmp_path / "other", silent)
    with pytest.raises(CompositionError, match="was trained on another base"):
        compose(Params.load(made.params), "alone", tmp_path / "other", made.folder, tmp_path / "pair", silent)
    assert folder_digest(tmp_path / "pair") == before
    assert not list(tmp_path.glob(".pair.*writing"))


NEXT = {"task": {"objective": "next_characters"}, "training": TRAINING}


def with_components(made: Project, folder: Path, **components: dict[str, object]) -> Project:
    """A project of its own over the base and the corpus of `made`."""
    project = Project(folder)
    project.write(PARAMS | {"components": components})
    project.encoded, project.base = made.encoded, made.base
    return project


def test_an_independent_causal_component_is_trained_beside_a_base_that_looks_ahead(
    made: Project, tmp_path: Path
) -> None:
    causal = ENCODER | {"causal": True}
    project = with_components(made, tmp_path, next=NEXT | {"encoder": causal, "independent": True})
    parts = {"parts": ["entities", "next"]}
    project.write(
        yaml.safe_load(project.params.read_text())
        | {"compositions": {"pair": parts, "control": parts | {"untrained": True}}}
    )
    part = project.run_pretrain("next")
    assert json.loads((part / "metrics.json").read_text())["held_out_bits_per_character"] > 0
    shutil.copytree(made.folder / "entities", tmp_path / "entities")
    for name in ("pair", "control"):
        compose(Params.load(project.params), name, made.base, tmp_path, tmp_path / name, silent)
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
def test_a_component_that_would_see_what_it_is_to_predict_is_refused(
    made: Project, tmp_path: Path, encoder: dict[str, object], independent: bool, message: str
) -> None:
    shape = encoder if "kind" in encoder else ENCODER | encoder
    project = with_components(made, tmp_path, next=NEXT | {"encoder": shape, "independent": independent})
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
    vocab(Params.load(project.params), corpus, project.encoded, silent)
    project.run_base()
    figures = json.loads((project.base / "metrics.json").read_text())
    assert figures["held_out_bits_per_masked_word"] > 0 < figures["held_out_bits_per_masked_character"]
    for loss in ("full_softmax", "sampled_softmax", "negative_sampling"):
        part = project.run_pretrain(loss)
        verify(part, "component")
        assert json.loads((part / "card.json").read_text())["configuration"]["task"]["loss"]["kind"] == loss
        figures = json.loads((part / "metrics.json").read_text())
        assert figures.keys() >= {"loss", "held_out_bits_per_masked_word", "held_out_masked_word_accuracy"}
    # Interrupted and resumed, a component is the same, although targets are drawn for every batch.
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


def test_words_are_refused_where_the_vocabulary_has_none(made: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(WORDS)
    project.encoded, project.base = made.encoded, made.base
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
def test_wrong_parameters_are_refused_by_name(made: Project, tmp_path: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    project = Project(tmp_path)
    project.write(PARAMS | change)
    project.encoded, project.base = made.encoded, made.base
    with pytest.raises(ConfigError, match=message):
        project.run_pretrain("entities")
    assert not (tmp_path / "entities").exists()
