"""Parts that are replaced, removed or renamed take effect in features, digests, weights and saved files."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from cclm_core.composition.component import Component
from cclm_core.composition.composed import MAX_DEPTH, ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders import AttentionConfig
from cclm_core.runtime.errors import CclmError, CompositionError, ConfigError
from tests.composition.nests import over, pair
from tests.encoders.shapes import SMALL, embedder, text

IDS = text(9)


def check(model: ComposedModel, names: list[str], folder: Path) -> None:
    """Checks that all views of a composition agree on its parts, before and after saving."""
    features = model.features(IDS)
    assert (
        list(model.parts)
        == [name for name in features if "/" not in name]
        == list(model.components)
        == list(model.card.parts)
        == names
    )
    output = model.eval()(IDS)
    assert output.shape[-1] == model.width
    if model.columns:
        assert list(model.columns) == names
        torch.testing.assert_close(output, torch.cat([features[name] for name in names], -1))
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("components.")} == set(names)
    save(model, folder)
    again = load_composition(folder)
    assert list(again.parts) == names and again.digest == model.digest
    assert torch.equal(again(IDS), output)


def test_a_replaced_part_takes_effect_everywhere(tmp_path: Path) -> None:
    base = embedder(SMALL)
    model = pair(base)
    before, new = model.digest, over(base, "third", AttentionConfig(num_layers=1, num_heads=2, width=16))
    outer = ComposedModel(base, [model, over(base, "plain")], "outer")
    model.components["first"] = new
    assert model.digest != before and model.width == 40 and outer.width == 64
    assert model.part("first") is new and new.name == "third", "a composition names its parts itself"
    assert {id(weight) for weight in new.parameters()} <= {id(weight) for weight in model.parameters()}
    check(model, ["first", "second"], tmp_path / "model")
    check(outer, ["pair", "plain"], tmp_path / "outer")


def test_parts_can_be_removed_and_added_in_place(tmp_path: Path) -> None:
    base = embedder(SMALL)
    model = pair(base)
    model.components["first"] = model.components.pop("first")  # now the last one
    check(model, ["second", "first"], tmp_path / "moved")
    del model.components["second"]
    check(model, ["first"], tmp_path / "removed")
    with pytest.raises(ConfigError, match="at least one component"):
        del model.components["first"]
    with pytest.raises(ConfigError, match="at least one component"):
        model.components.clear()
    model.components.more = over(base, "more")  # as tools that swap modules do
    check(model, ["first", "more"], tmp_path / "added")
    del model.components.first
    check(model, ["more"], tmp_path / "deleted")


@pytest.mark.parametrize("fusion", ["weighted_sum", "attention"])
def test_a_fusion_keeps_what_it_has_learned_about_the_other_parts(fusion: str, tmp_path: Path) -> None:
    base = embedder(SMALL)
    model = ComposedModel(base, [over(base, name) for name in ("a", "b", "c")], fusion=fusion)
    for parameter in model.fusion.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    learned, fused = copy.deepcopy(model.fusion.state_dict()), model.fusion
    model.components["b"] = over(base, "d")
    assert model.fusion is fused, "an optimizer keeps its weights"
    del model.components["a"]
    kept = model.fusion.state_dict()
    expected = dict(learned) if fusion == "attention" else {**learned, "weights": learned["weights"][1:]}
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    check(model, ["b", "c"], tmp_path / "model")


def test_replaced_without_and_renamed_return_new_compositions(tmp_path: Path) -> None:
    base = embedder(SMALL)
    model = ComposedModel(base, [over(base, name) for name in ("a", "b", "c")], "abc", "weighted_sum")
    with torch.no_grad():
        model.fusion.get_parameter("weights").copy_(torch.tensor([1.0, 2.0, 3.0]))
    before, new = model.digest, over(base, "d")
    others = {"replaced": model.replaced("b", new), "without": model.without("b"), "renamed": model.renamed("b", "x")}
    assert model.digest == before and model.parts == ("a", "b", "c")
    weights = {name: other.fusion.get_parameter("weights").tolist() for name, other in others.items()}
    assert weights == {"replaced": [1, 2, 3], "without": [1, 3], "renamed": [1, 2, 3]}
    assert others["renamed"].digest == before and others["replaced"].part("b") is new
    assert all(other.part("a") is model.part("a") and other.name == "abc" for other in others.values())
    for name, parts in (("replaced", "abc"), ("without", "ac"), ("renamed", "axc")):
        check(others[name], list(parts), tmp_path / name)
    with pytest.raises(CompositionError, match="has no part 'z'"):
        model.without("z")
    with pytest.raises(ConfigError, match="unique, got 'a' twice"):
        model.renamed("b", "a")


def test_a_composition_averages_the_parts_that_it_has_now() -> None:
    base = embedder(SMALL)
    parts = [over(base, "first"), copy.deepcopy(over(base, "first"))]
    for number, part in enumerate(parts):
        part.card = part.card.model_copy(update={"origin": "0" * 64})
        nn.init.constant_(part.get_parameter("body.norm.bias"), number)
    model = ComposedModel(base, {"a": parts[0], "b": parts[1]}, fusion="average").eval()
    del model.components["a"]
    assert torch.equal(model(IDS), model.features(IDS)["b"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda base, _: ComposedModel(base, [nn.Linear(2, 2)]), "must be a Component, .* got Linear"),  # type: ignore[list-item]
        (lambda base, part: ComposedModel(base, part), r"must be a list of parts, got Component. Use `\[part\]`"),
        (lambda base, _: ComposedModel(base, [base]), "got an Embedder, which is a base"),
        (lambda _, part: ComposedModel(part, [part]), "the base must be an Embedder or a ComposedModel, got Compon"),
        (lambda base, part: ComposedModel(base, {"A": part, "a": part}), "differ in more than case, got 'A' and 'a'"),
        (lambda base, part: ComposedModel(base, {"x" * 201: part}), "at most 200 bytes, got 201"),
        (lambda base, part: ComposedModel(base, {"a\u202eb": part}), "cannot be printed"),
        (lambda base, part: ComposedModel(base, {str(n): part for n in range(1001)}), "at most 1000 parts, got 1001"),
    ],
)
def test_what_is_no_part_is_refused(make: object, message: str) -> None:
    base = embedder(SMALL)
    with pytest.raises(CclmError, match=message):
        make(base, over(base, "part"))  # type: ignore[operator]


def test_a_part_that_does_not_fit_changes_nothing() -> None:
    base = embedder(SMALL)
    model = ComposedModel(base, [over(base, "a"), over(base, "b")], fusion="weighted_sum")
    before = model.digest
    wide = over(base, "a", AttentionConfig(num_layers=1, num_heads=2, width=16))
    for part, message in (
        (nn.Linear(2, 2), "got Linear"),
        (over(embedder(SMALL, seed=2), "a"), "trained on another base"),
        (wide, "needs parts of equal width"),
    ):
        with pytest.raises(CompositionError, match=message):
            model.components["a"] = part
    with pytest.raises(ConfigError, match="must not be empty or contain"):
        model.components["a/b"] = over(base, "c")
    assert model.digest == before and model.parts == ("a", "b")


def test_nesting_is_bounded() -> None:
    model: ComposedModel = pair(embedder(SMALL))
    for _ in range(MAX_DEPTH - 1):
        model = ComposedModel(model.base, [model], "deeper")
    assert model.depth == MAX_DEPTH
    with pytest.raises(CompositionError, match=f"at most {MAX_DEPTH} deep"):
        ComposedModel(model.base, [model])


def test_copies_have_parts_of_their_own() -> None:
    model = pair(embedder(SMALL))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  our own bytes
        del twin.components["first"]
        assert twin.parts == ("second",) and model.parts == ("first", "second")
        assert twin(IDS).shape[-1] == 24


def test_a_repr_has_names_width_and_digest() -> None:
    base = embedder(SMALL)
    model = pair(base, "both")
    for part in ("'both'", "concatenation", "['first', 'second']", "width=48", model.digest[:12]):
        assert part in repr(model).split("\n")[1]
    part = model.part("first")
    assert isinstance(part, Component) and part.digest[:12] in repr(part) and "'first'" in repr(part)
    assert base.digest[:12] in repr(base) and "width=24" in repr(base)
