"""The contextual encoder: contexts change the result, missing ones are masked, heads belong to types."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, save
from cclm_core.encoders.contexts import Contexts, ContextType
from cclm_core.encoders.contextual import ContextualConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.text.vocabulary import MASK, Preprocessor

LETTERS, MARKERS = "ab", "0123"
PREPROCESSOR = Preprocessor().fit(["abcdef" + MARKERS] * 10)
SMALL = {"core_width": 32, "width": 32, "num_layers": 2, "stride": 2}
ARCHITECTURES = ("bi_encoder", "batch_encoder", "hierarchical")
COMBINATIONS = ("sum", "concatenation", "attention")
BASE = {
    "embedding": {"width": 32, "ngram_buckets": 256},
    "encoder": {"core_width": 32, "num_layers": 1, "num_heads": 2, "width": 32, "stride": 1},
}


def new_base() -> Embedder:
    with seeded_initialization(1):
        return Embedder(PREPROCESSOR, EmbedderConfig.parse(BASE, "base")).freeze()


def new_part(base: Embedder, name: str = "context", **settings: object) -> Component:
    with seeded_initialization(2):
        config = ContextualConfig.parse({**SMALL, **settings}, "encoder")
        return Component(ComponentCard.over(base, name, "context_masked_characters", config))


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ids() -> Tensor:
    ids = torch.from_numpy(derive(1, "ids").integers(4, 10, size=(3, 20)))
    ids[1, 15:] = 0
    return ids


@pytest.fixture
def contexts() -> Contexts:
    """Two contexts, none, and one."""
    ids = torch.from_numpy(derive(1, "contexts").integers(4, 10, size=(3, 2, 30)))
    ids[1], ids[2, 1] = 0, 0
    return Contexts(ids, torch.tensor([1, 1, 2]))


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_missing_contexts_and_the_batch_change_nothing(
    architecture: str, combine: str, ids: Tensor, contexts: Contexts
) -> None:
    base = new_base()
    model = ComposedModel(base, [new_part(base, architecture=architecture, combine=combine)]).eval()
    assert contexts.ids is not None and contexts.types is not None
    with_contexts, without = model(ids, contexts=contexts), model(ids)
    assert (with_contexts[0] - without[0]).abs().max() > 1e-3
    torch.testing.assert_close(with_contexts[1], without[1])
    torch.testing.assert_close(model(ids, contexts=Contexts(contexts.ids[:, :0])), without)
    alone = [
        model(ids[k : k + 1], contexts=Contexts(contexts.ids[k : k + 1], contexts.types[k : k + 1])) for k in (0, 1, 2)
    ]
    torch.testing.assert_close(torch.cat(alone), with_contexts, rtol=1e-4, atol=1e-5)
    wider = Contexts(nn.functional.pad(contexts.ids, (0, 9, 0, 3)), contexts.types)
    torch.testing.assert_close(model(ids, contexts=wider), with_contexts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bi_encoder", "batch_encoder"])
def test_encodings_of_contexts_can_be_reused(architecture: str, ids: Tensor, contexts: Contexts) -> None:
    base = new_base()
    part = new_part(base, architecture=architecture)
    model = ComposedModel(base, [part]).eval()
    assert contexts.ids is not None
    encodings = part.encode_contexts(contexts.ids.flatten(0, 1), base).unflatten(0, (3, 2))
    reused = Contexts(encodings=encodings, present=(contexts.ids != 0).any(-1), types=contexts.types)
    torch.testing.assert_close(model(ids, contexts=reused), model(ids, contexts=contexts))


def test_heads_of_other_types_are_exactly_zero_and_get_no_gradient(architecture: str) -> None:
    base = new_base()
    part = new_part(base, architecture=architecture, author_heads=1, group_heads=1)
    ids = torch.from_numpy(derive(1, "heads").integers(4, 10, size=(2, 12)))
    others = torch.from_numpy(derive(2, "heads").integers(4, 10, size=(2, 3, 12)))
    OverBase(base, part)(ids, Contexts(others, torch.full((2,), ContextType.GROUP))).square().sum().backward()
    for attention in part.contextual.combinations:
        width = attention.out.weight.shape[1] // 4
        for layer in (attention.query, attention.key, attention.value):
            assert not layer.weight.grad[:width].any()  # the rows of the author's head
            assert layer.weight.grad[width:].any()
        assert not attention.out.weight.grad[:, :width].any()  # nothing comes out of it
        assert attention.out.weight.grad[:, width:].any()


@pytest.mark.parametrize("architecture", ["bi_encoder", "batch_encoder"])
def test_encodings_of_other_types_are_exactly_zero(architecture: str) -> None:
    base = new_base()
    part = new_part(base, architecture=architecture, author_heads=1, group_heads=1)
    others = torch.from_numpy(derive(2, "heads").integers(4, 10, size=(2, 3, 12)))
    encodings = part.encode_contexts(others.flatten(0, 1), base).unflatten(0, (2, 3))
    present = torch.ones(2, 3, dtype=torch.bool)
    by_group = part.contextual.encodings_by_group(encodings, present, torch.full((2,), ContextType.GROUP))
    assert not by_group["author"].any()
    assert by_group["group"].all() and by_group["shared"].all()
    assert by_group["all"].shape == (2, part.width) and by_group["shared"].shape == (2, part.width // 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_style_is_read_from_texts_of_the_same_author_only(architecture: str) -> None:
    """Each letter is followed by a marker that depends on the author; all markers of the text are masked."""
    base = new_base()
    part = new_part(base, architecture=architecture)
    with seeded_initialization(3):
        head = nn.Linear(part.width, PREPROCESSOR.num_ids)
    encoder, weights = OverBase(base, part), [*part.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=4e-3)
    for step in range(60):
        ids, targets, contexts = style_batch(derive(1, step), 64, ContextType.AUTHOR)
        scores = head(encoder(ids, contexts))[:, 1::2].flatten(0, 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores, targets.flatten()).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    accuracy = {}
    with torch.no_grad():
        for kind in (ContextType.AUTHOR, ContextType.RANDOM, ContextType.NONE):
            ids, targets, contexts = style_batch(derive(2), 256, kind)
            best = head(encoder(ids, contexts))[:, 1::2].argmax(-1)
            accuracy[kind] = (best == targets).float().mean().item()
    assert accuracy[ContextType.AUTHOR] > 0.7
    assert max(accuracy[ContextType.RANDOM], accuracy[ContextType.NONE]) < 0.45  # the most frequent marker: 0.33


def style_batch(generator: np.random.Generator, rows: int, kind: ContextType) -> tuple[Tensor, Tensor, Contexts]:
    """Texts by authors with one of six styles, their markers, and three contexts of each."""
    styles = generator.integers(6, size=rows)
    text = _posts(styles, generator)
    authors = np.repeat(styles, 3) if kind == ContextType.AUTHOR else generator.integers(6, size=3 * rows)
    contexts = _posts(authors, generator).reshape(rows, 3, -1)
    if kind == ContextType.NONE:
        contexts = contexts[:, :0]
    ids = text.copy()
    ids[:, 1::2] = MASK
    types = torch.full((rows,), int(kind))
    return torch.from_numpy(ids), torch.from_numpy(text[:, 1::2]), Contexts(torch.from_numpy(contexts), types)


def _posts(styles: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    letters = generator.integers(len(LETTERS), size=(len(styles), 6))
    posts = np.empty((len(styles), 12), dtype=np.int64)
    posts[:, 0::2] = PREPROCESSOR.encode(LETTERS)[letters]
    posts[:, 1::2] = PREPROCESSOR.encode(MARKERS)[(styles[:, None] + letters) % len(MARKERS)]
    return posts


def test_a_composition_passes_contexts_to_the_parts_that_read_them(
    tmp_path: object, ids: Tensor, contexts: Contexts
) -> None:
    base = new_base()
    with seeded_initialization(4):
        plain = Component(ComponentCard.over(base, "plain", "masked_characters", base.config.encoder))
    outer = ComposedModel(base, [plain, ComposedModel(base, [new_part(base)], "inner")]).eval()
    with_contexts, without = outer(ids, contexts=contexts), outer(ids)
    columns = outer.columns
    torch.testing.assert_close(with_contexts[..., columns["plain"]], without[..., columns["plain"]])
    assert (with_contexts[0][:, columns["inner"]] - without[0][:, columns["inner"]]).abs().max() > 1e-3
    save(outer, f"{tmp_path}/model")
    torch.testing.assert_close(load_composition(f"{tmp_path}/model")(ids, contexts=contexts), with_contexts)


def test_contexts_that_do_not_fit_are_refused(ids: Tensor, contexts: Contexts) -> None:
    base = new_base()
    with seeded_initialization(4):
        plain = Component(ComponentCard.over(base, "plain", "masked_characters", base.config.encoder))
    with pytest.raises(ConfigError, match="has no part that reads contexts"):
        ComposedModel(base, [plain])(ids, contexts=contexts)
    model = ComposedModel(base, [new_part(base)])
    assert contexts.ids is not None
    with pytest.raises(DataError, match="contexts must be ids"):
        model(ids, contexts=Contexts(contexts.ids[:2]))
    with pytest.raises(DataError, match="contexts need either"):
        model(ids, contexts=Contexts())
    with pytest.raises(DataError, match="`types` must be"):
        model(ids, contexts=Contexts(contexts.ids, torch.tensor([1])))
    hierarchical = ComposedModel(base, [new_part(base, architecture="hierarchical")])
    with pytest.raises(ConfigError, match="the hierarchical architecture cannot reuse"):
        hierarchical(ids, contexts=Contexts(encodings=torch.zeros(3, 2, 32)))
    with pytest.raises(ConfigError, match="does not read contexts"):
        plain.encode_contexts(ids, base)
    with pytest.raises(ConfigError, match="num_layers of 2 or more"):
        ContextualConfig.parse({"architecture": "hierarchical", "num_layers": 1}, "encoder")
