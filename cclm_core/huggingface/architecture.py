"""The architecture of a model as plain JSON, and a model with this architecture, whose weights come later.

A model is a tree: an embedder, or a composition with its base and its parts.

```
{"kind": "embedder", "config": {...}}
{"kind": "component", "card": {...}, "base": TREE}                 `base` only for a fork, which owns a copy
{"kind": "composition", "name": ..., "fusion": ..., "base": TREE, "parts": [{"name": ..., "model": TREE}]}
{"kind": "same", "path": ["base"]}                                 the model at an earlier path in the tree
```

`parts` is a list because config.json has sorted keys, and the order of the parts is that of their features.
"""

from collections.abc import Mapping
from typing import Any, cast

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel, Part
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig, Model
from cclm_core.encoders.pretrained.base import PretrainedEmbedding
from cclm_core.runtime.blocks import blocks_in
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.text.config import VocabularyConfig
from cclm_core.text.vocabulary import Preprocessor

Tree = dict[str, Any]
"""A node of the architecture with everything below it."""

Path = tuple[str | int, ...]


def tree_of(model: Base) -> Tree:
    """The architecture of an embedder or a composition.

    Raises:
        ConfigError: a part has a pretrained embedding, or uses building blocks of your own, whose code config.json
            cannot carry.
    """
    return _describe(model, (), {})


def vocabulary_of(preprocessor: Preprocessor) -> dict[str, Any]:
    """A vocabulary as plain JSON."""
    return {"config": preprocessor.config.canonical(), "alphabet": preprocessor.alphabet}


def preprocessor_of(vocabulary: Mapping[str, Any]) -> Preprocessor:
    """The vocabulary that `vocabulary_of` described.

    Raises:
        ArtifactError: a key is missing.
        ConfigError, DataError: a value is invalid.
    """
    if not {"config", "alphabet"} <= vocabulary.keys():
        raise ArtifactError(
            f"`vocabulary` must have the keys config and alphabet, got {sorted(vocabulary)}. Export the model again."
        )
    return Preprocessor(VocabularyConfig.parse(vocabulary["config"], "vocabulary.config"), vocabulary["alphabet"])


def build(tree: Mapping[str, Any], preprocessor: Preprocessor) -> Base:
    """A model with new weights, or without storage on the device `meta`.

    Raises:
        ArtifactError: the tree is damaged.
        ConfigError, CompositionError: a configuration is invalid, or the parts do not fit together.
    """
    model = _build(tree, preprocessor, None, (), {})
    if not isinstance(model, Base):
        raise ArtifactError(f"the encoder must be an embedder or a composition, got {tree['kind']}. Export it again.")
    return model


def part_tree(tree: Mapping[str, Any], name: str) -> Tree:
    """The part `name` of a composition as a tree of its own: a component becomes a composition with its base."""
    part: Tree = _expanded(next(part["model"] for part in tree["parts"] if part["name"] == name), tree)
    if part["kind"] != "component":
        return part
    base = _expanded(tree["base"], tree)
    return {
        "kind": "composition",
        "name": name,
        "fusion": "concatenation",
        "base": base,
        "parts": [{"name": name, "model": part}],
    }


def _expanded(node: Any, root: Mapping[str, Any]) -> Any:
    """A copy of a node, with the models that it shares with other parts of `root` in their full form."""
    if isinstance(node, list):
        return [_expanded(value, root) for value in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("kind") == "same":
        shared: Any = root
        for key in node["path"]:
            shared = shared[key]
        return _expanded(shared, root)
    return {key: _expanded(value, root) for key, value in node.items()}


def _describe(model: Model, path: Path, known: dict[int, Path]) -> Tree:
    """Describes a model. `known` has the path of each model that was described already, by `id`."""
    if id(model) in known:
        return {"kind": "same", "path": list(known[id(model)])}
    known[id(model)] = path
    own = model.embedding if isinstance(model, Embedder | Component) else None
    if isinstance(own, PretrainedEmbedding):
        raise ConfigError(
            f"{model.described} has a pretrained embedding, whose words or tokenizer do not fit into config.json. "
            "Export a model without it, or serve this one with `cclm serve`."
        )
    match model:
        case Embedder():
            _refuse_own_blocks(model.config)
            return {"kind": "embedder", "config": model.config.canonical()}
        case Component():
            _refuse_own_blocks(model.card)
            base = {} if model.own_base is None else {"base": _describe(model.own_base, (*path, "base"), known)}
            return {"kind": "component", "card": model.card.canonical(), **base}
        case ComposedModel():
            _refuse_own_blocks(model.card.fusion)
            base_tree = _describe(model.base, (*path, "base"), known)
            parts = [
                {"name": name, "model": _describe(model.part(name), (*path, "parts", index, "model"), known)}
                for index, name in enumerate(model.parts)
            ]
            fusion = model.card.canonical()["fusion"]
            return {"kind": "composition", "name": model.name, "fusion": fusion, "base": base_tree, "parts": parts}
    raise AssertionError(f"no such kind of model: {type(model).__name__}")


def _refuse_own_blocks(config: Config) -> None:
    if own := blocks_in(config):
        raise ConfigError(
            f"cannot export a model with the {own[0].family} {own[0].name} of your own: a model of transformers "
            "does not carry its code. Share the folder itself, which does."
        )


def _build(
    tree: Mapping[str, Any], preprocessor: Preprocessor, base: Base | None, path: Path, known: dict[Path, Model]
) -> Model:
    """Builds the model at `path`; `base` is the base of the composition that it is a part of."""
    try:
        model = _built(tree, preprocessor, base, path, known)
    except (KeyError, TypeError, AttributeError) as error:
        where = "/".join(map(str, path)) or "encoder"
        raise ArtifactError(f"the architecture is damaged at {where}: {error!r}. Export the model again.") from None
    known[path] = model
    return model


def _built(
    tree: Mapping[str, Any], preprocessor: Preprocessor, base: Base | None, path: Path, known: dict[Path, Model]
) -> Model:
    match tree["kind"]:
        case "same":
            return known[tuple(tree["path"])]
        case "embedder":
            return Embedder(preprocessor, EmbedderConfig.parse(tree["config"], "encoder"))
        case "component":
            card = ComponentCard.parse(tree["card"], "encoder")
            own = _build(tree["base"], preprocessor, None, (*path, "base"), known) if card.is_fork else None
            if card.base_digest is not None:
                assert base is not None, "only a composition has components"
                # The digest of the card is that of the original weights, which the base does not have yet.
                card = card.model_copy(update={"base_digest": base.digest})
            return Component(card, cast("Base | None", own))
        case "composition":
            inner = cast("Base", _build(tree["base"], preprocessor, None, (*path, "base"), known))
            parts = {
                part["name"]: cast(
                    "Part", _build(part["model"], preprocessor, inner, (*path, "parts", index, "model"), known)
                )
                for index, part in enumerate(tree["parts"])
            }
            return ComposedModel(inner, parts, tree["name"], tree["fusion"], train_base=True)
    raise ArtifactError(f"the architecture has an unknown kind {tree['kind']!r:.80}. Update cclm-core.")
