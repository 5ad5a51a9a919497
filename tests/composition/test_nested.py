"""Compositions as bases and as parts: any depth, each base once, parts as they were, refusals with both sides."""

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
from cclm_core.runtime.random import seeded_initialisation
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from tests.composition.nests import FUSIONS, counted, over, pair, tower
from tests.encoders.shapes import ATTENTION, CAUSAL, CONFIGS, LETTERS, SMALL, embedder, text

ROOT = Path(__file__).parents[2]
LOOKS_BACK = CAUSAL["causal-hourglass-4"]


def saved(model: Base | Component, folder: Path) -> Path:
    folder.mkdir(parents=True)
    save(model, folder)
    return folder


def reloaded(model: ComposedModel, folder: Path) -> ComposedModel:
    """The same with weights of its own, as from another place."""
    return load_composition(saved(model, folder))


def mixed(base: Embedder) -> ComposedModel:
    """A composition with a component, a composition over the same base, and one that brings its own base along."""
    inner = pair(base, "inner")
    brought = ComposedModel(inner, [over(inner, "top")], "brought")
    return ComposedModel(base, [over(base, "plain"), inner, brought], "outer")


def state(module: nn.Module) -> dict[str, tuple[bytes, bool]]:
    """Bytes of each weight, and whether it asks for a gradient."""
    return {
        name: (weight.detach().numpy().tobytes(), weight.requires_grad) for name, weight in module.named_parameters()
    }


@pytest.mark.parametrize("name", ["hourglass-4", "hourglass-word", "convolution", "attention-local"])
def test_texts_of_any_length_come_out_the_same_whatever_the_padding(name: str) -> None:
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


def test_the_base_runs_once_whoever_reads_it_and_how_deep_it_stands() -> None:
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
    assert calls == [2, 1, 2, 2], "features says what the parts say, without a call of the whole"


def test_equal_bases_from_several_places_are_one(tmp_path: Path) -> None:
    base = embedder(SMALL)
    inner, brought = pair(base, "inner"), tower(base)
    strangers = [reloaded(inner, tmp_path / "inner"), reloaded(brought, tmp_path / "brought")]
    plain = over(base, "plain")
    outer = ComposedModel(base, [plain, *strangers])
    embedders = [module for module in outer.modules() if isinstance(module, Embedder)]
    assert len(embedders) == 3
    with counted(*embedders) as calls:
        features = outer(text(9))
    assert sum(calls) == 1
    assert torch.equal(features, ComposedModel(base, [plain, inner, brought])(text(9)))
    again = reloaded(outer, tmp_path / "outer")
    assert sum(isinstance(module, Embedder) for module in again.modules()) == 1
    assert torch.equal(again(text(9)), features)


def test_an_equal_base_whose_weights_change_is_read_apart(tmp_path: Path) -> None:
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


def test_the_base_may_stand_among_the_parts_and_is_passed_on(tmp_path: Path) -> None:
    inner = pair(embedder(SMALL), "inner")
    model = ComposedModel(inner, [over(inner, "top"), inner])
    assert torch.equal(model(text(9))[..., 24:], inner(text(9)))
    for one in (model, reloaded(model, tmp_path / "model")):
        with counted(one.base) as calls:
            one(text(9)).sum().backward()
        assert calls == [1]
        assert all(weight.grad is None for weight in one.base.parameters())


def test_features_name_every_part_by_its_path() -> None:
    outer = mixed(embedder(SMALL))
    said = outer.features(text(9))
    assert list(said) == ["plain", "inner", "inner/first", "inner/second", "brought", "brought/top"]
    assert torch.equal(said["inner"], torch.cat([said["inner/first"], said["inner/second"]], dim=-1))
    assert torch.equal(outer(text(9)), torch.cat([said[name] for name in outer.parts], dim=-1))


LOADING = """
import sys, hashlib
from pathlib import Path
import torch
from cclm_core import load
torch.set_num_threads(1)
model = load(Path(sys.argv[1]))
print(hashlib.sha256(b"".join(rows.tobytes() for rows in model.embed(["cab a", "", "dad." * 9]))).hexdigest())
print(model.digest)
"""


def test_one_folder_holds_each_base_once_and_loads_to_the_same_bytes_in_a_fresh_process(tmp_path: Path) -> None:
    base = embedder(SMALL)
    outer = ComposedModel(base, [mixed(base), tower(base), over(base, "plain")], "all", "concatenation")
    folder = saved(outer, tmp_path / "saved")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("embedder.safetensors")] == [
        "base/embedder.safetensors"
    ]
    moved = folder.rename(tmp_path / "moved")
    shown = [
        subprocess.run(
            [sys.executable, "-c", LOADING, str(moved)], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    again = load(moved)
    assert isinstance(again, ComposedModel) and again.card == outer.card
    assert torch.equal(again(text(9)), outer.eval()(text(9)))
    assert shown[0] == shown[1] and shown[0].split()[1] == outer.digest == again.digest
    twice = saved(again, tmp_path / "twice")
    files = [path.relative_to(moved) for path in sorted(moved.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(twice) for path in sorted(twice.rglob("*")) if path.is_file()]
    assert all((moved / name).read_bytes() == (twice / name).read_bytes() for name in files)


def test_only_what_is_nested_has_the_second_format(tmp_path: Path) -> None:
    base = embedder(SMALL)
    for model, number in ((pair(base), 1), (mixed(base), 2), (tower(base), 2)):
        card = read_json(saved(model, tmp_path / str(number) / model.name) / "composition.json")
        assert card["format"] == f"cclm-composition-{number}"
        assert set(card) == {"format", "name", "fusion", "parts", "base_digest"}


def test_a_folder_is_read_as_what_it_holds(tmp_path: Path) -> None:
    base = embedder(SMALL)
    one, other, third = (
        saved(model, tmp_path / str(number)) for number, model in enumerate((base, over(base, "part"), tower(base)))
    )
    assert [type(load(folder)) for folder in (one, other, third)] == [Embedder, Component, ComposedModel]
    with pytest.raises(ArtifactError, match="must hold a model of kind embedder or composition, got component"):
        load_base(other)
    with pytest.raises(ArtifactError, match="must hold a model of kind component, got embedder"):
        load_component(one)
    with pytest.raises(ArtifactError, match="must hold a model of kind embedder, got composition"):
        load_embedder(third)
    with pytest.raises(ArtifactError, match="must hold a model of kind composition, got component"):
        load_composition(other)
    with pytest.raises(ArtifactError, match=r"must hold one of embedder.json, component.json, composition.json, got n"):
        load(tmp_path)
    (other / "embedder.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"got embedder.json, component.json"):
        load(other)


def test_a_folder_from_inside_a_composition_needs_the_base_that_stands_outside(tmp_path: Path) -> None:
    folder = saved(mixed(embedder(SMALL)), tmp_path / "outer")
    with pytest.raises(ArtifactError, match=r"not found in .*base\. A composition that was saved inside another"):
        load(folder / "parts" / "inner")


def test_a_folder_that_leads_back_to_itself_is_refused(tmp_path: Path) -> None:
    folder = saved(mixed(embedder(SMALL)), tmp_path / "outer")
    inner = folder / "parts" / "inner"
    inner.rename(tmp_path / "away")
    inner.symlink_to(folder, target_is_directory=True)
    with pytest.raises(ArtifactError, match="must not contain itself; a link leads from it back to"):
        load(folder)


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    base = embedder(SMALL)
    folder = saved(pair(base), tmp_path / "pair")
    card = (folder / "composition.json").read_text()
    (folder / "composition.json").write_text(card.replace('"second"', '"../first"'))
    with pytest.raises(ConfigError, match=r"must not be empty or contain .*, got '../first'"):
        load(folder)
    for name, message in (
        ("a/b", "must not be empty"),
        ("", "must not be empty"),
        ("values", "torch's modules use it"),
    ):
        with pytest.raises(ConfigError, match=message):
            ComposedModel(base, [over(base, name)])
    inner = pair(base, "same")
    with pytest.raises(ConfigError, match="different names, got 'same' twice"):
        ComposedModel(base, [over(base, "same"), inner])
    ComposedModel(base, [over(base, "first"), inner])  # a name may come again inside


@pytest.mark.parametrize("frozen", [True, False])
def test_composing_changes_no_part_and_no_base(frozen: bool, tmp_path: Path) -> None:
    base = embedder(SMALL)
    base = base.freeze() if frozen else base.unfreeze()
    inner, plain = pair(base, "inner"), over(base, "plain").eval()
    inner.components["first"].requires_grad_(False)
    stranger = reloaded(inner, tmp_path / "stranger").train()
    models = (base, inner, plain, stranger)
    before = [(state(model), [module.training for module in model.modules()]) for model in models]
    outer = ComposedModel(base, [plain, inner])
    assert ComposedModel(base, [stranger]).part("inner") is stranger
    ComposedModel(outer, [over(outer, "top")])(text(9)).sum().backward()
    OverBase(outer, over(outer, "top"))
    assert [(state(model), [module.training for module in model.modules()]) for model in models] == before
    assert outer.components["inner"] is inner and outer.base is base


def test_the_base_gets_no_gradient_and_the_parts_at_all_depths_do() -> None:
    base = embedder(SMALL).unfreeze()
    outer = mixed(base)
    outer(text(9)).sum().backward()
    with_gradient = {name for name, weight in outer.named_parameters() if weight.grad is not None}
    assert not any(weight.grad is not None for weight in base.parameters())
    for path in ("components.plain", "components.inner.components.first", "components.brought.components.top"):
        assert any(name.startswith(path) for name in with_gradient)


def test_freeze_and_unfreeze_reach_everything_below() -> None:
    model = tower(embedder(SMALL))
    assert not any(weight.requires_grad for weight in model.freeze().parameters()) and not model.base.training
    assert all(weight.requires_grad for weight in model.unfreeze().parameters()) and model.base.training


def test_a_base_that_was_trained_with_its_parts_is_saved_once_they_adopt_it(tmp_path: Path) -> None:
    base = embedder(SMALL)
    before = base.digest
    outer = ComposedModel(base, [over(base, "plain"), pair(base, "inner")], train_base=True)
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    outer(text(9)).square().sum().backward()
    optimizer.step()
    (tmp_path / "refused").mkdir()
    with pytest.raises(
        CompositionError, match=rf"trained on, {before[:12]}, but it has changed since, to {base.digest[:12]}"
    ):
        save(outer, tmp_path / "refused")
    outer.adopt_base()
    again = reloaded(outer, tmp_path / "adopted")
    assert torch.equal(again(text(9)), outer(text(9)))
    assert outer.card.base_digest == base.digest != before


def test_the_digest_tells_what_is_computed_not_what_it_is_called() -> None:
    base = embedder(SMALL)

    def made(names: tuple[str, str] = ("first", "second"), fusion: str = "weighted_sum") -> ComposedModel:
        parts = [over(base, name) for name in ("first", "second")]
        for part, name in zip(parts, names, strict=True):
            part.card = part.card.model_copy(update={"name": name})
        return ComposedModel(base, parts, "_".join(names), fusion)

    digests = {made().digest, made(("one", "other")).digest}
    assert len(digests) == 1
    changed, other = made(), made()
    with torch.no_grad():
        changed.fusion.get_parameter("weights")[0] += 1e-3
        other.part("first").get_parameter("body.norm.bias")[0] += 1e-3
    wider = ATTENTION.model_copy(update={"window": 4})  # the same weights, put to another use
    window = ComposedModel(base, [over(base, "first", wider), over(base, "second")], "x", "weighted_sum")
    reversed_order = ComposedModel(base, [over(base, "second"), over(base, "first")], "x", "weighted_sum")
    inner = ComposedModel(base, [made()], "x")
    digests |= {model.digest for model in (changed, other, window, reversed_order, inner, made(fusion="attention"))}
    digests |= {tower(base).digest, tower(embedder(SMALL, seed=2)).digest}
    assert len(digests) == 9


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "average"])
def test_every_fusion_joins_nested_parts(fusion: str, tmp_path: Path) -> None:
    base = embedder(SMALL)
    inner = ComposedModel(base, [over(base, "first"), over(base, "second")], "inner", fusion)
    model = ComposedModel(
        base, [inner, over(base, "plain", ATTENTION.model_copy(update={"width": inner.width}))], "m", fusion
    )
    with torch.no_grad(), seeded_initialisation(3):
        for module in (inner.fusion, model.fusion):
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight))
    again = reloaded(model, tmp_path / "model")
    assert torch.equal(again(text(9)), model(text(9))) and again.digest == model.digest


def test_the_weights_of_compositions_are_not_averaged() -> None:
    base = embedder(SMALL)
    with pytest.raises(CompositionError, match=r"average needs components, .* 'inner' is a composition. Use concaten"):
        ComposedModel(base, [over(base, "plain"), pair(base, "inner")], fusion="average")


def test_a_composition_is_causal_if_every_path_is() -> None:
    ahead, back = embedder(SMALL), embedder(LOOKS_BACK)
    causal = ComposedModel(back, [over(back, "one", LOOKS_BACK), over(back, "two", CAUSAL["causal-attention"])])
    assert causal.causal and ComposedModel(causal, [over(causal, "top", LOOKS_BACK)]).causal
    beside = ComposedModel(ahead, [over(ahead, "own", LOOKS_BACK, independent=True), causal], "beside")
    assert beside.causal, "no part reads the base that looks ahead"
    assert not ComposedModel(ahead, [over(ahead, "one"), beside]).causal
    around = ComposedModel(back, [over(back, "one", LOOKS_BACK), over(back, "two")], "around")
    shape = r"concatenation of 'one', 'two', causal: false"
    with pytest.raises(
        CompositionError,
        match=rf"'next' .* cannot read the composition 'around' \({shape}\), digest {around.digest[:12]}",
    ):
        ComponentCard.over(around, "next", "next_characters", LOOKS_BACK)
    high = ComposedModel(beside, [over(beside, "top", LOOKS_BACK)])
    ids, other = text(20), text(20)
    other[0, 12] = 260 + (ids[0, 12] - 259) % 10
    moved = (high(ids) - high(other)).abs().amax(-1)[0]
    assert (moved[:12] == 0).all() and moved[12] > 0


def test_a_component_of_another_composition_is_refused_with_both_named() -> None:
    base = embedder(SMALL)
    one, other = pair(base), ComposedModel(base, [over(base, "first")])
    with pytest.raises(CompositionError, match=rf"trained on {one.digest[:12]}, this one is {other.digest[:12]}"):
        ComposedModel(other, [over(one, "top")])
    with pytest.raises(CompositionError, match=rf"trained on {one.digest[:12]}, this one is {base.digest[:12]}"):
        ComposedModel(base, [over(one, "top")])


def test_a_composition_of_another_vocabulary_or_normalisation_is_refused_with_both_named() -> None:
    base = embedder(SMALL)
    composing = VocabularyConfig(normalisation="NFC")
    for preprocessor in (Preprocessor(alphabet=LETTERS[:9]), Preprocessor(composing, alphabet=LETTERS)):
        form = preprocessor.config.normalisation or "none"
        stranger = pair(Embedder(preprocessor, base.config), "stranger")
        both = (
            rf"'stranger' must share the vocabulary of the base: it reads {preprocessor.digest[:12]} "
            rf"\({len(preprocessor.alphabet)} characters, normalisation {form}\), "
            rf"the base \(.*\) reads {base.preprocessor.digest[:12]} \(23 characters, normalisation none\)"
        )
        with pytest.raises(CompositionError, match=both):
            ComposedModel(base, [stranger])


def test_an_untrained_control_keeps_the_bases_and_depends_on_its_seed_alone() -> None:
    base = embedder(SMALL)
    model = mixed(base)
    one, again, other = model.untrained(1), model.untrained(1), model.untrained(2)
    assert one.digest == again.digest != other.digest and one.base is base
    assert one.features(text(9)).keys() == model.features(text(9)).keys()
    assert not np.allclose(one.embed(["cab"])[0], model.embed(["cab"])[0])
    with pytest.raises(CompositionError):
        ComposedModel(embedder(SMALL, seed=2), [*one._parts.values()])
