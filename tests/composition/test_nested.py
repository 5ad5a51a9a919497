"""Compositions as bases and parts: any depth, one run per base, unchanged parts, and combinations that are refused."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cclm_core import load
from cclm_core.composition import Component, ComponentCard, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_all, load_base, load_component, load_composition, load_embedder, save
from cclm_core.encoders.embedder import Base, Embedder
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from tests.composition.nests import FUSIONS, counted, over, pair, tower
from tests.encoders.shapes import ATTENTION, CAUSAL, CONFIGS, LETTERS, SMALL, embedder, text

ROOT = Path(__file__).parents[2]
CAUSAL_ENCODER = CAUSAL["causal-hourglass-4"]


def saved(model: Base | Component, folder: Path) -> Path:
    folder.mkdir(parents=True)
    save(model, folder)
    return folder


def reloaded(model: ComposedModel, folder: Path) -> ComposedModel:
    """A copy with its own weights, as if loaded elsewhere."""
    return load_composition(saved(model, folder))


def mixed(base: Embedder) -> ComposedModel:
    """A composition of a component, a composition over the same base, and a composition with its own base."""
    inner = pair(base, "inner")
    nested = ComposedModel(inner, [over(inner, "top")], "nested")
    return ComposedModel(base, [over(base, "plain"), inner, nested], "outer")


def state(module: nn.Module) -> dict[str, tuple[bytes, bool]]:
    """The bytes of each weight, and whether it requires a gradient."""
    return {
        name: (weight.detach().numpy().tobytes(), weight.requires_grad) for name, weight in module.named_parameters()
    }


@pytest.mark.parametrize("name", ["hourglass-4", "hourglass-word", "convolution", "attention-local"])
def test_nested_compositions_support_any_length_and_ignore_padding(name: str) -> None:
    base = embedder(CONFIGS[name])
    lowest = ComposedModel(base, [over(base, "first", CONFIGS[name]), over(base, "second", CONFIGS["hourglass-word"])])
    for model in (ComposedModel(lowest, [over(lowest, "third", CONFIGS["hourglass-word"]), lowest]), tower(base)):
        for length in (0, 1, 9):
            alone = model(text(length))
            assert alone.shape == (1, length, model.width) and torch.isfinite(alone).all()
            padded = model(nn.functional.pad(text(length), (0, 7)))
            torch.testing.assert_close(padded[:, :length], alone, atol=1e-5, rtol=1e-5)
            assert (padded[:, length:] == 0).all()
        assert model(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 5, model.width)
        assert [rows.shape for rows in model.embed(["cab", "", "a" * 90], window=32)] == [
            (length, model.width) for length in (3, 0, 90)
        ]


def test_the_base_runs_once_at_any_depth() -> None:
    base = embedder(SMALL)
    outer = mixed(base)
    inner = outer.components["inner"]
    with counted(base, inner) as calls:
        outer(text(9))
    assert calls[0] == 1
    with counted(base, inner) as calls, torch.no_grad():
        outer(text(9))
    assert calls == [1, 1]
    high = tower(base)
    with counted(base, *(module for module in high.modules() if isinstance(module, ComposedModel))) as calls:
        high(text(9))
        high.features(text(9))
    assert calls == [2, 1, 2, 2], "`features` calls the parts, not the outermost model"


def test_equal_bases_run_and_are_saved_once(tmp_path: Path) -> None:
    base = embedder(SMALL)
    inner, nested = pair(base, "inner"), tower(base)
    copies = [reloaded(inner, tmp_path / "inner"), reloaded(nested, tmp_path / "nested")]
    plain = over(base, "plain")
    outer = ComposedModel(base, [plain, *copies])
    embedders = [module for module in outer.modules() if isinstance(module, Embedder)]
    assert len(embedders) == 3
    with counted(*embedders) as calls:
        features = outer(text(9))
    assert sum(calls) == 1
    assert torch.equal(features, ComposedModel(base, [plain, inner, nested])(text(9)))
    again = reloaded(outer, tmp_path / "outer")
    assert sum(isinstance(module, Embedder) for module in again.modules()) == 1
    assert torch.equal(again(text(9)), features)


def test_an_equal_base_runs_separately_after_its_weights_change(tmp_path: Path) -> None:
    base = embedder(SMALL)
    inner = reloaded(pair(base, "inner"), tmp_path / "inner")
    outer = ComposedModel(base, [over(base, "plain"), inner])
    outer(text(9))
    before = outer.features(text(9))
    with torch.no_grad():
        inner.embedder.get_parameter("encoder.norm.bias").add_(1)
    after = outer.features(text(9))
    assert torch.equal(before["plain"], after["plain"]) and not torch.equal(before["inner"], after["inner"])


def test_bases_loaded_together_are_one_object(tmp_path: Path) -> None:
    base = embedder(SMALL)
    folders = [saved(model, tmp_path / model.name) for model in (pair(base, "inner"), tower(base), over(base, "plain"))]
    loaded, parts = load_all(saved(base, tmp_path / "base"), folders)
    model = ComposedModel(loaded, parts)
    assert [module for module in model.modules() if isinstance(module, Embedder)] == [loaded]


def test_the_base_can_be_one_of_the_parts(tmp_path: Path) -> None:
    inner = pair(embedder(SMALL), "inner")
    model = ComposedModel(inner, [over(inner, "top"), inner])
    assert torch.equal(model(text(9))[..., 24:], inner(text(9)))
    for outer in (model, reloaded(model, tmp_path / "model")):
        with counted(outer.base) as calls:
            outer(text(9)).sum().backward()
        assert calls == [1]
        assert all(weight.grad is None for weight in outer.base.parameters())


def test_features_name_every_part_by_its_path() -> None:
    outer = mixed(embedder(SMALL))
    features = outer.features(text(9))
    assert list(features) == ["plain", "inner", "inner/first", "inner/second", "nested", "nested/top"]
    assert torch.equal(features["inner"], torch.cat([features["inner/first"], features["inner/second"]], dim=-1))
    assert torch.equal(outer(text(9)), torch.cat([features[name] for name in outer.parts], dim=-1))


TEXTS = ["cab a", "", "dad." * 9]
LOADING = f"""
import sys, hashlib
TEXTS = {TEXTS}
from pathlib import Path
import torch
from cclm_core import load
torch.set_num_threads(1)
model = load(Path(sys.argv[1]))
print(hashlib.sha256(b"".join(rows.tobytes() for rows in model.embed(TEXTS))).hexdigest())
print(model.digest)
assert "torch._dynamo" not in sys.modules, "importing it takes as long as importing torch"
"""


def test_a_folder_contains_each_base_once_and_gives_the_same_features_in_a_new_process(tmp_path: Path) -> None:
    base = embedder(SMALL)
    outer = ComposedModel(base, [mixed(base), tower(base), over(base, "plain")], "all", "concatenation")
    folder = saved(outer, tmp_path / "saved")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("embedder.safetensors")] == [
        "base/embedder.safetensors"
    ]
    moved = folder.rename(tmp_path / "moved")
    command = [sys.executable, "-c", LOADING, str(moved)]
    features, digest = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    again = load(moved)
    assert isinstance(again, ComposedModel) and again.card == outer.card
    assert torch.equal(again(text(9)), outer.eval()(text(9)))
    assert features == hashlib.sha256(b"".join(rows.tobytes() for rows in again.embed(TEXTS))).hexdigest()
    assert digest == outer.digest == again.digest
    twice = saved(again, tmp_path / "twice")
    files = [path.relative_to(moved) for path in sorted(moved.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(twice) for path in sorted(twice.rglob("*")) if path.is_file()]
    assert all((moved / name).read_bytes() == (twice / name).read_bytes() for name in files)


def test_only_nested_compositions_have_the_second_format(tmp_path: Path) -> None:
    base = embedder(SMALL)
    for model, number in ((pair(base), 1), (mixed(base), 2), (tower(base), 2)):
        card = read_json(saved(model, tmp_path / str(number) / model.name) / "composition.json")
        assert card["format"] == f"cclm-composition-{number}"
        assert set(card) == {"format", "name", "fusion", "parts", "base_digest"}


def test_the_kind_of_a_folder_is_detected_and_checked(tmp_path: Path) -> None:
    base = embedder(SMALL)
    models = {"embedder": base, "component": over(base, "part"), "composition": tower(base)}
    folders = {kind: saved(model, tmp_path / kind) for kind, model in models.items()}
    assert [type(load(folder)) for folder in folders.values()] == [Embedder, Component, ComposedModel]
    with pytest.raises(ArtifactError, match="must contain a model of kind embedder or composition, got component"):
        load_base(folders["component"])
    with pytest.raises(ArtifactError, match="must contain a model of kind component, got embedder"):
        load_component(folders["embedder"])
    with pytest.raises(ArtifactError, match="must contain a model of kind embedder, got composition"):
        load_embedder(folders["composition"])
    with pytest.raises(ArtifactError, match="must contain a model of kind composition, got component"):
        load_composition(folders["component"])
    with pytest.raises(ArtifactError, match=r"one of embedder.json, component.json, composition.json, got none"):
        load(tmp_path)
    (folders["component"] / "embedder.json").write_text("{}")
    (folders["component"] / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"got embedder.json, component.json"):
        load(folders["component"])


def test_a_part_of_a_saved_composition_cannot_be_loaded_alone(tmp_path: Path) -> None:
    folder = saved(mixed(embedder(SMALL)), tmp_path / "outer")
    with pytest.raises(ArtifactError, match=r"not found in .*base\. A composition that was saved inside another"):
        load(folder / "parts" / "inner")


def test_a_link_to_an_enclosing_folder_is_refused(tmp_path: Path) -> None:
    folder = saved(mixed(embedder(SMALL)), tmp_path / "outer")
    inner = folder / "parts" / "inner"
    (folder / "manifest.json").unlink()
    inner.rename(tmp_path / "away")
    inner.symlink_to(folder, target_is_directory=True)
    with pytest.raises(ArtifactError, match="is a link to a folder that contains it"):
        load(folder)


def test_invalid_names_of_parts_are_refused(tmp_path: Path) -> None:
    base = embedder(SMALL)
    folder = saved(pair(base), tmp_path / "pair")
    card = (folder / "composition.json").read_text()
    (folder / "manifest.json").unlink()
    (folder / "composition.json").write_text(card.replace('"second"', '"../first"'))
    with pytest.raises(ConfigError, match=r"must not be empty or contain .*, got '../first'"):
        load(folder)
    for name, message in (
        ("a/b", "must not be empty"),
        ("", "must not be empty"),
        ("values", "must not be 'values', reserved by torch"),
    ):
        with pytest.raises(ConfigError, match=message):
            ComposedModel(base, [over(base, name)])
    inner = pair(base, "same")
    with pytest.raises(ConfigError, match="must be unique, got 'same' twice"):
        ComposedModel(base, [over(base, "same"), inner])
    ComposedModel(base, [over(base, "first"), inner])  # a nested composition can reuse a name


@pytest.mark.parametrize("frozen", [True, False])
def test_composing_changes_neither_parts_nor_bases(frozen: bool, tmp_path: Path) -> None:
    base = embedder(SMALL)
    base = base.freeze() if frozen else base.unfreeze()
    inner, plain = pair(base, "inner"), over(base, "plain").eval()
    inner.components["first"].requires_grad_(False)
    copied = reloaded(inner, tmp_path / "copied").train()
    models = (base, inner, plain, copied)
    before = [(state(model), [module.training for module in model.modules()]) for model in models]
    outer = ComposedModel(base, [plain, inner])
    assert ComposedModel(base, [copied]).part("inner") is copied
    ComposedModel(outer, [over(outer, "top")])(text(9)).sum().backward()
    OverBase(outer, over(outer, "top"))
    assert [(state(model), [module.training for module in model.modules()]) for model in models] == before
    assert outer.components["inner"] is inner and outer.base is base


def test_parts_at_all_depths_get_gradients_and_the_base_does_not() -> None:
    base = embedder(SMALL).unfreeze()
    outer = mixed(base)
    outer(text(9)).sum().backward()
    with_gradient = {name for name, weight in outer.named_parameters() if weight.grad is not None}
    assert not any(weight.grad is not None for weight in base.parameters())
    for path in ("components.plain", "components.inner.components.first", "components.nested.components.top"):
        assert any(name.startswith(path) for name in with_gradient)


def test_freeze_and_unfreeze_affect_all_nested_models() -> None:
    model = tower(embedder(SMALL))
    assert not any(weight.requires_grad for weight in model.freeze().parameters()) and not model.base.training
    assert all(weight.requires_grad for weight in model.unfreeze().parameters()) and model.base.training


def test_a_base_trained_with_its_parts_can_be_saved_after_they_adopt_it(tmp_path: Path) -> None:
    base = embedder(SMALL)
    before = base.digest
    outer = ComposedModel(base, [over(base, "plain"), pair(base, "inner")], train_base=True)
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    outer(text(9)).square().sum().backward()
    optimizer.step()
    (tmp_path / "refused").mkdir()
    with pytest.raises(CompositionError, match=rf"its base has changed .*, from {before[:12]} to {base.digest[:12]}"):
        save(outer, tmp_path / "refused")
    outer.adopt_base()
    again = reloaded(outer, tmp_path / "adopted")
    assert torch.equal(again(text(9)), outer(text(9)))
    assert outer.card.base_digest == base.digest != before


def test_the_digest_depends_on_the_computation_and_not_on_names() -> None:
    base = embedder(SMALL)

    def weighted(names: tuple[str, str] = ("first", "second"), fusion: str = "weighted_sum") -> ComposedModel:
        parts = [over(base, name) for name in ("first", "second")]
        for part, name in zip(parts, names, strict=True):
            part.card = part.card.model_copy(update={"name": name})
        return ComposedModel(base, parts, "_".join(names), fusion)

    digests = {weighted().digest, weighted(("one", "two")).digest}
    assert len(digests) == 1
    changed_fusion, changed_part = weighted(), weighted()
    with torch.no_grad():
        changed_fusion.fusion.get_parameter("weights")[0] += 1e-3
        changed_part.part("first").get_parameter("body.norm.bias")[0] += 1e-3
    windowed = ATTENTION.model_copy(update={"window": 4})  # the same weights, another computation
    window = ComposedModel(base, [over(base, "first", windowed), over(base, "second")], "x", "weighted_sum")
    reversed_order = ComposedModel(base, [over(base, "second"), over(base, "first")], "x", "weighted_sum")
    nested = ComposedModel(base, [weighted()], "x")
    models = (changed_fusion, changed_part, window, reversed_order, nested, weighted(fusion="attention"))
    digests |= {model.digest for model in models}
    digests |= {tower(base).digest, tower(embedder(SMALL, seed=2)).digest}
    assert len(digests) == 9


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "average"])
def test_every_fusion_joins_nested_parts(fusion: str, tmp_path: Path) -> None:
    base = embedder(SMALL)
    inner = ComposedModel(base, [over(base, "first"), over(base, "second")], "inner", fusion)
    model = ComposedModel(
        base, [inner, over(base, "plain", ATTENTION.model_copy(update={"width": inner.width}))], "m", fusion
    )
    with torch.no_grad(), seeded_initialization(3):
        for module in (inner.fusion, model.fusion):
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight))
    again = reloaded(model, tmp_path / "model")
    assert torch.equal(again(text(9)), model(text(9))) and again.digest == model.digest


def test_compositions_cannot_be_averaged() -> None:
    base = embedder(SMALL)
    with pytest.raises(CompositionError, match=r"only accepts components, got the compositions 'inner'. Use concaten"):
        ComposedModel(base, [over(base, "plain"), pair(base, "inner")], fusion="average")


def test_a_composition_is_causal_if_all_parts_are() -> None:
    ahead, back = embedder(SMALL), embedder(CAUSAL_ENCODER)
    causal = ComposedModel(back, [over(back, "one", CAUSAL_ENCODER), over(back, "two", CAUSAL["causal-attention"])])
    assert causal.causal and ComposedModel(causal, [over(causal, "top", CAUSAL_ENCODER)]).causal
    mixed = ComposedModel(ahead, [over(ahead, "own", CAUSAL_ENCODER, independent=True), causal], "mixed")
    assert mixed.causal, "no part reads the bidirectional base"
    assert not ComposedModel(ahead, [over(ahead, "one"), mixed]).causal
    around = ComposedModel(back, [over(back, "one", CAUSAL_ENCODER), over(back, "two")], "around")
    shape = r"concatenation of 'one', 'two', causal: false"
    with pytest.raises(
        CompositionError,
        match=rf"'next' .* reads the composition 'around' \({shape}\), digest {around.digest[:12]}",
    ):
        ComponentCard.over(around, "next", "next_characters", CAUSAL_ENCODER)
    high = ComposedModel(mixed, [over(mixed, "top", CAUSAL_ENCODER)])
    ids, changed = text(20), text(20)
    changed[0, 12] = 260 + (ids[0, 12] - 259) % 10
    difference = (high(ids) - high(changed)).abs().amax(-1)[0]
    assert (difference[:12] == 0).all() and difference[12] > 0


def test_a_component_over_another_composition_is_refused() -> None:
    base = embedder(SMALL)
    own, other = pair(base), ComposedModel(base, [over(base, "first")])
    with pytest.raises(CompositionError, match=rf"expected {own.digest[:12]}, got {other.digest[:12]}"):
        ComposedModel(other, [over(own, "top")])
    with pytest.raises(CompositionError, match=rf"expected {own.digest[:12]}, got {base.digest[:12]}"):
        ComposedModel(base, [over(own, "top")])


def test_a_composition_with_another_vocabulary_or_normalization_is_refused() -> None:
    base = embedder(SMALL)
    composing = VocabularyConfig(normalisation="NFC")
    for preprocessor in (Preprocessor(alphabet=LETTERS[:9]), Preprocessor(composing, alphabet=LETTERS)):
        form = preprocessor.config.normalisation or "none"
        stranger = pair(Embedder(preprocessor, base.config), "stranger")
        message = (
            rf"'stranger' must share the vocabulary of the base: it has vocabulary {preprocessor.digest[:12]} "
            rf"\({len(preprocessor.alphabet)} characters, normalisation {form}\), "
            rf"the base \(.*\) has {base.preprocessor.digest[:12]} \(23 characters, normalisation none\)"
        )
        with pytest.raises(CompositionError, match=message):
            ComposedModel(base, [stranger])


def test_an_untrained_control_keeps_the_bases_and_depends_only_on_its_seed() -> None:
    base = embedder(SMALL)
    model = mixed(base)
    control, again, other = model.untrained(1), model.untrained(1), model.untrained(2)
    assert control.digest == again.digest != other.digest and control.base is base
    assert control.features(text(9)).keys() == model.features(text(9)).keys()
    assert not np.allclose(control.embed(["cab"])[0], model.embed(["cab"])[0])
    with pytest.raises(CompositionError):
        ComposedModel(embedder(SMALL, seed=2), [*control._parts.values()])
